package cluster

import (
	"context"
	"testing"

	"github.com/etcdlock/etcdlock"
	"github.com/stretchr/testify/assert"
)

// Vacancy stands for a vacancy among values.
const Vacancy = "(vacant)"

// Observe follows an election. The first channel is closed at the end. If the end is an error, it is
// sent to the second channel.
func (f *Fixture) Observe(ctx context.Context, e *etcdlock.Election) (<-chan etcdlock.Leader, <-chan error) {
	leaders, end := make(chan etcdlock.Leader, 100), make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	f.t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		defer close(leaders)
		for leader, err := range e.Observe(ctx) {
			if err != nil {
				end <- err
				return
			}
			leaders <- leader
		}
		end <- nil
	}()
	return leaders, end
}

// NextValue is the value of the next observation.
func NextValue(t *testing.T, leaders <-chan etcdlock.Leader) string {
	t.Helper()
	l := Receive(t, leaders, "an observation")
	if l.Vacant() {
		return Vacancy
	}
	assert.NotEmpty(t, l.Key)
	assert.Positive(t, l.CreateRevision)
	return l.Value
}
