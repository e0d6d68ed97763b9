// Command etcdload loads an etcd cluster through clientv3, as the harness orders.
//
// Every order has one client of its own; all tasks share it.
package main

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/clientv3"

	"raftdbench/closedloop"
)

const (
	keysPerTask = 16
	valueBytes  = 256
	dialTimeout = 20 * time.Second
)

type load func(context.Context, *clientv3.Client, closedloop.Order) (closedloop.Answer, error)

var loads = map[string]load{
	"put-1":    puts,
	"put-64":   puts,
	"put-1000": puts,
	"get-64":   gets,
	"get-1000": gets,
	"lock-64":  lockCycles,
	"handover": handOvers,
	"failover": failover,
}

func main() {
	closedloop.Serve(func(order closedloop.Order) (closedloop.Answer, error) {
		do, ok := loads[order.Measure]
		if !ok {
			return closedloop.Answer{}, fmt.Errorf("etcd has no such workload")
		}
		client, err := clientv3.New(clientv3.Config{
			Endpoints:   order.Endpoints,
			DialTimeout: dialTimeout,
		})
		if err != nil {
			return closedloop.Answer{}, err
		}
		defer client.Close()
		return do(context.Background(), client, order)
	})
}

func value() string {
	text := make([]byte, valueBytes)
	for at := range text {
		text[at] = 'v'
	}
	return string(text)
}

func keysOf(order closedloop.Order, perTask int) [][]string {
	keys := make([][]string, order.Tasks)
	for task := range keys {
		for number := 0; number < perTask; number++ {
			key := fmt.Sprintf("%s/%d/%d", order.Prefix, task, number)
			keys[task] = append(keys[task], key)
		}
	}
	return keys
}

// puts has each task write a few keys of its own in turn. A key's version counts its
// puts, so each was applied exactly once if the versions are the counts.
func puts(
	ctx context.Context, client *clientv3.Client, order closedloop.Order,
) (closedloop.Answer, error) {
	keys, text := keysOf(order, keysPerTask), value()
	done := make([]int, order.Tasks)
	loop, err := closedloop.Run(order, func(task int) error {
		_, err := client.Put(ctx, keys[task][done[task]%keysPerTask], text)
		done[task]++
		return err
	})
	if err != nil {
		return closedloop.Answer{}, err
	}
	expected := map[string]int64{}
	for task, count := range loop.Done {
		for number := 0; number < count; number++ {
			expected[keys[task][number%keysPerTask]]++
		}
	}
	found, err := versions(ctx, client, order, expected)
	return loop.Answer(found), err
}

// gets has each task read a key of its own, linearizably.
func gets(
	ctx context.Context, client *clientv3.Client, order closedloop.Order,
) (closedloop.Answer, error) {
	keys, text := keysOf(order, 1), value()
	expected := map[string]int64{}
	for _, of := range keys {
		if _, err := client.Put(ctx, of[0], text); err != nil {
			return closedloop.Answer{}, err
		}
		expected[of[0]] = 1
	}
	loop, err := closedloop.Run(order, func(task int) error {
		response, err := client.Get(ctx, keys[task][0])
		if err == nil && (len(response.Kvs) != 1 || string(response.Kvs[0].Value) != text) {
			err = fmt.Errorf("%s was not read as written", keys[task][0])
		}
		return err
	})
	if err != nil {
		return closedloop.Answer{}, err
	}
	// Every answer was checked; reading changed nothing.
	_, err = versions(ctx, client, order, expected)
	return loop.Answer(loop.Total()), err
}

// versions compares the keys of a run with what was acknowledged; returns their puts.
func versions(
	ctx context.Context, client *clientv3.Client, order closedloop.Order, expected map[string]int64,
) (int, error) {
	response, err := client.Get(ctx, order.Prefix+"/", clientv3.WithPrefix())
	if err != nil {
		return 0, err
	}
	total, text := 0, value()
	for _, kv := range response.Kvs {
		if string(kv.Value) != text {
			return 0, fmt.Errorf("%s does not hold what was put", kv.Key)
		}
		if kv.Version != expected[string(kv.Key)] {
			return 0, fmt.Errorf(
				"%s was put %d times, %d acknowledged", kv.Key, kv.Version, expected[string(kv.Key)],
			)
		}
		total += int(kv.Version)
	}
	if len(response.Kvs) != len(expected) {
		return 0, fmt.Errorf("%d keys are there, not %d", len(response.Kvs), len(expected))
	}
	return total, nil
}
