package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"

	"raftdbench/closedloop"
)

const (
	writeEvery   = 10 * time.Millisecond
	writeTimeout = 10 * time.Second
	pauseMax     = 60 * time.Second
	writesBefore = 50
	readTimeout  = 5 * time.Second
	readsMax     = 10
)

// writer begins a write every few milliseconds, whatever becomes of those before: one
// that was passed on to a dead leader is lost for seconds, and must not hold up others.
type writer struct {
	client       *clientv3.Client
	prefix       string
	guard        sync.Mutex
	acknowledged []string
	times        []ack
	running      sync.WaitGroup
	count        chan int
}

type ack struct{ began, ended time.Time }

// failover writes while the harness kills a server. The pause lasts from the kill to
// the first acknowledgement of a write begun after it.
func failover(
	ctx context.Context, client *clientv3.Client, order closedloop.Order,
) (closedloop.Answer, error) {
	w := &writer{client: client, prefix: order.Prefix, count: make(chan int, 1<<16)}
	writing, stop := context.WithCancel(ctx)
	defer stop()
	w.running.Add(1)
	go w.write(writing)
	for <-w.count < writesBefore {
	}
	closedloop.Tell(closedloop.Answer{Event: "begin"})
	told, ok := closedloop.Next()
	if !ok {
		return closedloop.Answer{}, fmt.Errorf("nobody told of the kill")
	}
	killed := time.Unix(0, told.KilledNs)
	ended, err := w.firstBegunAfter(killed)
	// Those that the dead leader was told of would take seconds more to fail; not
	// acknowledged, they count for nothing.
	stop()
	if err != nil {
		return closedloop.Answer{}, err
	}
	w.running.Wait()
	found, err := w.found(ctx)
	return closedloop.Answer{
		PauseS:       ended.Sub(killed).Seconds(),
		Acknowledged: len(w.acknowledged),
		Found:        found,
	}, err
}

func (w *writer) write(ctx context.Context) {
	defer w.running.Done()
	ticker := time.NewTicker(writeEvery)
	defer ticker.Stop()
	for number := 0; ; number++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		w.running.Add(1)
		go w.one(ctx, fmt.Sprintf("%s/%d", w.prefix, number))
	}
}

func (w *writer) one(ctx context.Context, key string) {
	defer w.running.Done()
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	// Without its monotonic part: the kill is told in the time of day.
	began := time.Now().Round(0)
	if _, err := w.client.Put(ctx, key, value()); err != nil {
		return // unknown: it counts for nothing
	}
	ended := time.Now().Round(0)
	w.guard.Lock()
	w.acknowledged = append(w.acknowledged, key)
	w.times = append(w.times, ack{began, ended})
	count := len(w.acknowledged)
	w.guard.Unlock()
	w.count <- count
}

func (w *writer) firstBegunAfter(killed time.Time) (time.Time, error) {
	timeout := time.After(pauseMax)
	for seen := 0; ; {
		w.guard.Lock()
		times := w.times[seen:]
		w.guard.Unlock()
		for _, each := range times {
			if each.began.After(killed) {
				return each.ended, nil
			}
		}
		seen += len(times)
		select {
		case <-w.count:
		case <-timeout:
			return time.Time{}, fmt.Errorf("no write in %v after the kill", pauseMax)
		}
	}
}

// found counts the acknowledged writes that the cluster holds.
func (w *writer) found(ctx context.Context) (int, error) {
	response, err := w.read(ctx)
	if err != nil {
		return 0, err
	}
	held := map[string]bool{}
	for _, kv := range response.Kvs {
		held[string(kv.Key)] = true
	}
	found := 0
	for _, key := range w.acknowledged {
		if held[key] {
			found++
		}
	}
	return found, nil
}

// read gets all keys. A request that goes to a server which is cut off is never
// answered: another one goes to the next server.
func (w *writer) read(ctx context.Context) (*clientv3.GetResponse, error) {
	var last error
	for try := 0; try < readsMax && ctx.Err() == nil; try++ {
		one, cancel := context.WithTimeout(ctx, readTimeout)
		response, err := w.client.Get(
			one, w.prefix+"/", clientv3.WithPrefix(), clientv3.WithKeysOnly(),
		)
		cancel()
		if err == nil {
			return response, nil
		}
		last = err
	}
	return nil, last
}
