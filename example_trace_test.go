package etcdlock_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/etcdlock/etcdlock"
)

// A program that reports each wait above a limit, and each hold that was lost.
func ExampleWithTrace() {
	ctx := context.Background()
	client := newClient() // clientv3.New(...)
	defer client.Close()
	trace := &etcdlock.Trace{
		AcquireEnd: func(_ context.Context, e etcdlock.AcquireEndInfo) {
			if e.Waited > 100*time.Millisecond {
				fmt.Println("slow:", e.Kind, e.Name, e.Path, etcdlock.ErrorType(e.Err))
			}
		},
		HoldEnd: func(_ context.Context, e etcdlock.HoldEndInfo) {
			fmt.Println("end:", e.Hold.Kind, e.Hold.Name, etcdlock.ErrorType(e.Cause))
		},
	}
	session, err := etcdlock.NewSession(ctx, client, etcdlock.WithTrace(trace))
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close(ctx)

	mutex := etcdlock.NewMutex(session, "orders/42")
	lock, err := mutex.Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	impatient, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	_, _ = mutex.Lock(impatient)
	if err := lock.Unlock(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// slow: mutex orders/42 unknown deadline_exceeded
	// end: mutex orders/42 released
}
