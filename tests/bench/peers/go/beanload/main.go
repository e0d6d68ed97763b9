// Command beanload loads a beanstalkd server over plain TCP, as the harness orders.
//
// Each task has a connection of its own and sends its next command when the last one
// is answered: a cycle is put, reserve and delete, one job each. All tasks share a
// tube, so that a task reserves whatever job is ready.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strconv"
	"strings"

	"raftdbench/closedloop"
)

const valueBytes = 256

// put has priority 0, no delay, and 120 s to be worked on.
var put = fmt.Sprintf("put 0 0 120 %d\r\n%s\r\n", valueBytes, strings.Repeat("v", valueBytes))

func main() {
	closedloop.Serve(func(order closedloop.Order) (closedloop.Answer, error) {
		if order.Measure != "job-64" && order.Measure != "job-64-connections" {
			return closedloop.Answer{}, fmt.Errorf("beanstalkd has no such workload")
		}
		return jobs(order)
	})
}

func jobs(order closedloop.Order) (closedloop.Answer, error) {
	workers := make([]*worker, order.Tasks)
	for task := range workers {
		connected, err := connect(order)
		if err != nil {
			return closedloop.Answer{}, err
		}
		defer connected.socket.Close()
		workers[task] = connected
	}
	loop, err := closedloop.Run(order, func(task int) error { return workers[task].cycle() })
	if err != nil {
		return closedloop.Answer{}, err
	}
	found, err := proved(workers, order)
	return loop.Answer(found), err
}

// proved compares what was enqueued with what was completed, and both with what the
// server counted; returns how many jobs there were.
func proved(workers []*worker, order closedloop.Order) (int, error) {
	open := map[string]int{}
	total := 0
	for _, each := range workers {
		for _, id := range each.enqueued {
			open[id]++
		}
		total += len(each.enqueued)
	}
	for _, each := range workers {
		for _, id := range each.completed {
			open[id]--
		}
	}
	for id, count := range open {
		if count != 0 {
			return 0, fmt.Errorf("job %s was not completed once", id)
		}
	}
	stats, err := workers[0].stats(order.Prefix)
	if err != nil {
		return 0, err
	}
	if stats["current-jobs-ready"] != 0 || stats["current-jobs-reserved"] != 0 {
		return 0, fmt.Errorf("jobs are left: %v", stats)
	}
	if stats["cmd-delete"] != total {
		return 0, fmt.Errorf("%d jobs were deleted, not %d", stats["cmd-delete"], total)
	}
	return stats["total-jobs"], nil
}

type worker struct {
	socket    net.Conn
	reader    *bufio.Reader
	enqueued  []string
	completed []string
	request   []byte
}

func connect(order closedloop.Order) (*worker, error) {
	socket, err := net.Dial("tcp", order.Endpoints[0])
	if err != nil {
		return nil, err
	}
	w := &worker{socket: socket, reader: bufio.NewReader(socket)}
	if _, err := w.ask("use "+order.Prefix+"\r\n", "USING "); err != nil {
		return nil, err
	}
	if _, err := w.ask("watch "+order.Prefix+"\r\n", "WATCHING "); err != nil {
		return nil, err
	}
	_, err = w.ask("ignore default\r\n", "WATCHING ")
	return w, err
}

func (w *worker) cycle() error {
	id, err := w.ask(put, "INSERTED ")
	if err != nil {
		return err
	}
	w.enqueued = append(w.enqueued, id)
	if id, err = w.reserve(); err != nil {
		return err
	}
	w.request = append(append(append(w.request[:0], "delete "...), id...), "\r\n"...)
	if _, err := w.socket.Write(w.request); err != nil {
		return err
	}
	if _, err := w.answer("DELETED"); err != nil {
		return err
	}
	w.completed = append(w.completed, id)
	return nil
}

func (w *worker) reserve() (string, error) {
	told, err := w.ask("reserve\r\n", "RESERVED ")
	if err != nil {
		return "", err
	}
	id, size, _ := strings.Cut(told, " ")
	body, err := w.body(size)
	if err == nil && len(body) != valueBytes {
		err = fmt.Errorf("job %s has %d bytes", id, len(body))
	}
	return id, err
}

func (w *worker) stats(tube string) (map[string]int, error) {
	size, err := w.ask("stats-tube "+tube+"\r\n", "OK ")
	if err != nil {
		return nil, err
	}
	text, err := w.body(size)
	found := map[string]int{}
	for _, line := range strings.Split(string(text), "\n") {
		name, number, _ := strings.Cut(line, ": ")
		if value, err := strconv.Atoi(number); err == nil {
			found[name] = value
		}
	}
	return found, err
}

func (w *worker) ask(request, begins string) (string, error) {
	if _, err := w.socket.Write([]byte(request)); err != nil {
		return "", err
	}
	return w.answer(begins)
}

// answer reads a line; returns what comes after the expected beginning.
func (w *worker) answer(begins string) (string, error) {
	line, err := w.reader.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	line = bytes.TrimRight(line, "\r\n")
	if !bytes.HasPrefix(line, []byte(begins)) {
		return "", fmt.Errorf("beanstalkd answered %q, not %q", line, begins)
	}
	return string(line[len(begins):]), nil
}

func (w *worker) body(size string) ([]byte, error) {
	bytesLong, err := strconv.Atoi(size)
	if err != nil {
		return nil, err
	}
	body := make([]byte, bytesLong+2)
	for at := 0; at < len(body); {
		read, err := w.reader.Read(body[at:])
		if err != nil {
			return nil, err
		}
		at += read
	}
	return body[:bytesLong], nil
}
