"""What all doors of a node do with TCP connections: ports, frames, signs of life.

Source: DESIGN.md section 2.
"""
