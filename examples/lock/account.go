package main

import (
	"context"
	"fmt"
	"sync"
)

// account is the resource that the lock protects. It represents any store that
// can remember one number: a table with a column for it, a file, a storage
// service with conditional writes.
//
// The lock alone cannot protect the account from a holder that was stopped. A
// process that was suspended, or a virtual machine that was moved, continues
// where it stopped, even if another process holds the lock by then. The account
// therefore remembers the highest fencing token that it has seen, and refuses
// writes with an older one.
type account struct {
	mu      sync.Mutex
	balance int
	token   int64 // the highest so far
}

// withdraw takes amount out on behalf of the holder with this token, and prints
// what came of it.
func (a *account) withdraw(ctx context.Context, who string, token int64, amount int) {
	balance, err := a.take(ctx, token, amount)
	if err != nil {
		fmt.Printf("%s withdraws %d with token %d: refused: %v\n", who, amount, token, err)
		return
	}
	fmt.Printf("%s withdraws %d with token %d: the balance is %d\n", who, amount, token, balance)
}

// take takes amount out and returns the new balance.
func (a *account) take(ctx context.Context, token int64, amount int) (int, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx) // of a lock's context: how the lock ended
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if token < a.token {
		return 0, fmt.Errorf("token %d is older than %d", token, a.token)
	}
	a.token = token
	if a.balance < amount {
		return 0, fmt.Errorf("the balance is only %d", a.balance)
	}
	a.balance -= amount
	return a.balance, nil
}
