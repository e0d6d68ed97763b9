// Package closedloop is what the load programs in Go share: orders and answers as
// lines of JSON, and tasks that start an operation when their last one has ended.
//
// An order is answered by "begin" and "end" around the measured time, so that the
// harness takes the processor time of all processes then, and by "done" with the
// figures, or "failed" with a sentence. Operations that end outside the measured time
// are counted as acknowledged, and proved, but not measured.
package closedloop

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"sync"
	"time"
)

// Order is one run that the harness asks for.
type Order struct {
	Measure   string   `json:"measure"`
	Endpoints []string `json:"endpoints"`
	Prefix    string   `json:"prefix"` // of every name; no other run has the same
	Tasks     int      `json:"tasks"`
	WarmUpS   float64  `json:"warm_up_s"`
	MeasuredS float64  `json:"measured_s"`
	HoldS     float64  `json:"hold_s"` // how long a contended lock is held
	KilledNs  int64    `json:"killed_ns"`
}

// Answer is one line told to the harness.
type Answer struct {
	Event        string  `json:"event"`
	Sentence     string  `json:"sentence,omitempty"`
	Operations   int     `json:"operations"`
	P50Us        float64 `json:"p50_us"`
	P99Us        float64 `json:"p99_us"`
	Acknowledged int     `json:"acknowledged"` // operations, the warm-up's among them
	Found        int     `json:"found"`        // operations that the servers show at the end
	PauseS       float64 `json:"pause_s"`
}

var (
	telling sync.Mutex
	orders  = bufio.NewScanner(os.Stdin)
)

// Tell writes one line.
func Tell(answer Answer) {
	telling.Lock()
	defer telling.Unlock()
	line, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s\n", line)
}

// Next waits for an order; there is none once the harness has gone.
func Next() (Order, bool) {
	var order Order
	if !orders.Scan() {
		return order, false
	}
	if err := json.Unmarshal(orders.Bytes(), &order); err != nil {
		fmt.Fprintln(os.Stderr, "not an order:", err)
		os.Exit(2)
	}
	return order, true
}

// Serve answers orders until the harness has gone.
func Serve(do func(Order) (Answer, error)) {
	for {
		order, ok := Next()
		if !ok {
			return
		}
		answer, err := do(order)
		if err != nil {
			Tell(Answer{Event: "failed", Sentence: order.Measure + ": " + err.Error()})
			continue
		}
		answer.Event = "done"
		Tell(answer)
	}
}

// Loop is one closed loop; Done counts the operations that ended, by task.
type Loop struct {
	Done      []int
	begin     time.Time
	end       time.Time
	latencies [][]time.Duration
	late      []time.Duration
}

// Run has every task repeat its step until the measured time is over.
func Run(order Order, step func(task int) error) (*Loop, error) {
	loop, told := start(order)
	err := loop.all(order.Tasks, func(task int, began time.Time) error {
		if err := step(task); err != nil {
			return err
		}
		now := time.Now()
		loop.record(task, now.Sub(began), now)
		return nil
	})
	<-told
	return loop, err
}

// RunHandOvers has every task acquire one lock and release it. A step calls acquired
// when it has the lock and releasing before it gives it back; measured is the time
// from a task's releasing to another one's acquired.
func RunHandOvers(
	order Order, step func(task int, acquired func(), releasing func()) error,
) (*Loop, error) {
	loop, told := start(order)
	var guard sync.Mutex
	var at time.Time
	by := -1
	acquired := func(task int) {
		guard.Lock()
		defer guard.Unlock()
		if now := time.Now(); by >= 0 && by != task {
			loop.record(task, now.Sub(at), now)
		}
	}
	releasing := func(task int) {
		guard.Lock()
		defer guard.Unlock()
		at, by = time.Now(), task
	}
	err := loop.all(order.Tasks, func(task int, _ time.Time) error {
		return step(task, func() { acquired(task) }, func() { releasing(task) })
	})
	<-told
	return loop, err
}

// all runs every task until the measured time is over; returns the first failure.
func (loop *Loop) all(tasks int, step func(task int, began time.Time) error) error {
	failures := make([]error, tasks)
	var running sync.WaitGroup
	for task := 0; task < tasks; task++ {
		running.Add(1)
		go func(task int) {
			defer running.Done()
			for now := time.Now(); now.Before(loop.end); now = time.Now() {
				if failures[task] = step(task, now); failures[task] != nil {
					return
				}
				loop.Done[task]++
			}
		}(task)
	}
	running.Wait()
	for _, err := range failures {
		if err != nil {
			return err
		}
	}
	return nil
}

// start begins the warm-up; what it returns is closed once "end" is told.
func start(order Order) (*Loop, chan struct{}) {
	begin := time.Now().Add(seconds(order.WarmUpS))
	loop := &Loop{
		Done:      make([]int, order.Tasks),
		begin:     begin,
		end:       begin.Add(seconds(order.MeasuredS)),
		latencies: make([][]time.Duration, order.Tasks),
		late:      make([]time.Duration, order.Tasks),
	}
	told := make(chan struct{})
	go func() {
		defer close(told)
		time.Sleep(time.Until(loop.begin))
		Tell(Answer{Event: "begin"})
		time.Sleep(time.Until(loop.end))
		Tell(Answer{Event: "end"})
	}()
	return loop, told
}

// record keeps how long an operation took, if it ended within the measured time.
func (loop *Loop) record(task int, took time.Duration, now time.Time) {
	switch {
	case now.Before(loop.begin):
	case now.Before(loop.end):
		loop.latencies[task] = append(loop.latencies[task], took)
	default:
		loop.late[task] = took
	}
}

// Total counts the operations that ended, the warm-up's among them.
func (loop *Loop) Total() int {
	total := 0
	for _, done := range loop.Done {
		total += done
	}
	return total
}

// Answer gathers the figures; found is what the servers show to have been done.
func (loop *Loop) Answer(found int) Answer {
	all := []time.Duration{}
	for _, each := range loop.latencies {
		all = append(all, each...)
	}
	for _, took := range loop.late {
		// However slow the machine: one operation that ended counts.
		if len(all) == 0 && took > 0 {
			all = append(all, took)
		}
	}
	sort.Slice(all, func(a, b int) bool { return all[a] < all[b] })
	return Answer{
		Operations:   len(all),
		P50Us:        quantile(all, 0.50),
		P99Us:        quantile(all, 0.99),
		Acknowledged: loop.Total(),
		Found:        found,
	}
}

func quantile(ordered []time.Duration, share float64) float64 {
	if len(ordered) == 0 {
		return 0
	}
	at := int(float64(len(ordered)) * share)
	if at >= len(ordered) {
		at = len(ordered) - 1
	}
	return float64(ordered[at]) / 1e3
}

func seconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second))
}
