package main

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestTheAccountRefusesAnOlderTokenAndNothingElse(t *testing.T) {
	acct := &account{balance: 100}
	for _, step := range []struct {
		token   int64
		amount  int
		balance int
		refused string
	}{
		{token: 7, amount: 10, balance: 90},
		{token: 7, amount: 10, balance: 80}, // the same holder again
		{token: 9, amount: 10, balance: 70},
		{token: 7, amount: 10, balance: 70, refused: "older"},
		{token: 9, amount: 500, balance: 70, refused: "only 70"},
		{token: 8, amount: 10, balance: 70, refused: "older"},
		{token: 12, amount: 70, balance: 0},
	} {
		_, err := acct.take(t.Context(), step.token, step.amount)
		if acct.balance != step.balance {
			t.Errorf("%+v: balance is %d", step, acct.balance)
		}
		if (err != nil) != (step.refused != "") || err != nil && !strings.Contains(err.Error(), step.refused) {
			t.Errorf("%+v: got %v", step, err)
		}
	}
}

func TestTheAccountDoesNothingForAHolderWhoseContextIsOver(t *testing.T) {
	acct := &account{balance: 100}
	why := errors.New("lost")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := acct.take(ctx, 7, 10); !errors.Is(err, why) {
		t.Errorf("got %v, want the cause", err)
	}
	if acct.balance != 100 || acct.token != 0 {
		t.Errorf("changed to %d with token %d", acct.balance, acct.token)
	}
}
