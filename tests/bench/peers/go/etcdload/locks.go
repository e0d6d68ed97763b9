package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"

	"raftdbench/closedloop"
)

// lockCycles has each task acquire and release a lock of its own, by the recipe of
// clientv3; all of them share a session. Revisions grow with each cycle.
func lockCycles(
	ctx context.Context, client *clientv3.Client, order closedloop.Order,
) (closedloop.Answer, error) {
	session, err := concurrency.NewSession(client)
	if err != nil {
		return closedloop.Answer{}, err
	}
	defer session.Close()
	locks := make([]*concurrency.Mutex, order.Tasks)
	for task := range locks {
		locks[task] = concurrency.NewMutex(session, fmt.Sprintf("%s/%d", order.Prefix, task))
	}
	revisions := make([]int64, order.Tasks)
	loop, err := closedloop.Run(order, func(task int) error {
		if err := locks[task].Lock(ctx); err != nil {
			return err
		}
		if err := grown(&revisions[task], locks[task]); err != nil {
			return err
		}
		return locks[task].Unlock(ctx)
	})
	if err != nil {
		return closedloop.Answer{}, err
	}
	return loop.Answer(loop.Total()), noneHeld(ctx, client, order)
}

// handOvers has tasks, each with a session of its own, contend for one lock. A holder
// keeps it for a while, so that another one waits when it releases.
func handOvers(
	ctx context.Context, client *clientv3.Client, order closedloop.Order,
) (closedloop.Answer, error) {
	locks := make([]*concurrency.Mutex, order.Tasks)
	for task := range locks {
		session, err := concurrency.NewSession(client)
		if err != nil {
			return closedloop.Answer{}, err
		}
		defer session.Close()
		locks[task] = concurrency.NewMutex(session, order.Prefix+"/lock")
	}
	var revision int64
	var holders int32
	hold := time.Duration(order.HoldS * float64(time.Second))
	loop, err := closedloop.RunHandOvers(order, func(task int, acquired func(), releasing func()) error {
		if err := locks[task].Lock(ctx); err != nil {
			return err
		}
		acquired()
		if atomic.AddInt32(&holders, 1) != 1 {
			return fmt.Errorf("two hold the lock")
		}
		if err := grown(&revision, locks[task]); err != nil {
			return err
		}
		time.Sleep(hold)
		atomic.AddInt32(&holders, -1)
		releasing()
		return locks[task].Unlock(ctx)
	})
	if err != nil {
		return closedloop.Answer{}, err
	}
	return loop.Answer(loop.Total()), noneHeld(ctx, client, order)
}

// grown fails unless a lock's revision is greater than that of its last holder.
func grown(last *int64, lock *concurrency.Mutex) error {
	revision := lock.Header().Revision
	if revision <= *last {
		return fmt.Errorf("the revision of a lock did not grow")
	}
	*last = revision
	return nil
}

func noneHeld(ctx context.Context, client *clientv3.Client, order closedloop.Order) error {
	response, err := client.Get(
		ctx, order.Prefix+"/", clientv3.WithPrefix(), clientv3.WithCountOnly(),
	)
	if err == nil && response.Count != 0 {
		err = fmt.Errorf("%d locks are still held", response.Count)
	}
	return err
}
