package docs

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
)

func nightly(ctx context.Context, session *etcdlock.Session, runUnlessDone func(context.Context, int64) error) error {
	mutex := etcdlock.NewMutex(session, "jobs/nightly")
	for {
		err := mutex.Do(ctx, func(ctx context.Context, lock *etcdlock.Lock) error {
			return runUnlessDone(ctx, lock.Token()) // looks at the mark first, and sets it at the end
		})
		if !errors.Is(err, etcdlock.ErrExpired) && !errors.Is(err, etcdlock.ErrRevoked) {
			return err
		}
		// The lease is lost, and with it the lock or the place in the queue. The run may be unfinished.
	}
}

// jobs are processes that run the periodic job of docs/choosing.md.
type jobs struct {
	sessions []*etcdlock.Session
	begun    chan int // the process that begins a run, which then lasts as long as its context
	marked   atomic.Bool
	ended    chan error
}

// newJobs starts the job in two processes, and waits until one of them works and the other one waits.
func newJobs(ctx context.Context, t *testing.T) *jobs {
	client := newClient()
	t.Cleanup(func() { _ = client.Close() })
	j := &jobs{begun: make(chan int, 10), ended: make(chan error, 2)}
	for i := range 2 {
		session, err := etcdlock.NewSession(t.Context(), client)
		require.NoError(t, err)
		t.Cleanup(func() { _ = session.Close(context.Background()) })
		j.sessions = append(j.sessions, session)
		go func() {
			j.ended <- nightly(ctx, session, func(ctx context.Context, _ int64) error {
				if j.marked.Load() {
					return nil
				}
				j.begun <- i
				if len(j.begun) > 1 {
					j.marked.Store(true)
					return nil
				}
				<-ctx.Done()
				return context.Cause(ctx)
			})
		}()
	}
	require.Eventually(t, func() bool {
		queue, err := etcdlock.NewMutex(j.sessions[0], "jobs/nightly").Queue(t.Context())
		return err == nil && len(queue) == 2 && len(j.begun) == 1
	}, 10*time.Second, 10*time.Millisecond)
	return j
}

// lose ends the lease of a process, as its expiry in etcd does.
func (j *jobs) lose(t *testing.T, i int) {
	_, err := j.sessions[i].Client().Revoke(t.Context(), j.sessions[i].Lease())
	require.NoError(t, err)
}

func (j *jobs) wait(t *testing.T) error {
	select {
	case err := <-j.ended:
		return err
	case <-time.After(10 * time.Second):
		require.Fail(t, "the job does not end")
		return nil
	}
}

func TestAPeriodicJobIsBegunAgainByAnotherProcess(t *testing.T) {
	j := newJobs(t.Context(), t)
	first := <-j.begun
	j.begun <- first
	j.lose(t, first)
	require.NoError(t, j.wait(t))
	require.NoError(t, j.wait(t))
	require.True(t, j.marked.Load())
	require.Equal(t, []int{first, 1 - first}, []int{<-j.begun, <-j.begun})
	require.Empty(t, j.begun, "the mark has stopped further runs")
}

// An outage of etcd ends all leases.
func TestAPeriodicJobIsBegunAgainAfterAllProcessesHaveLostTheirLeases(t *testing.T) {
	j := newJobs(t.Context(), t)
	for i := range j.sessions {
		j.lose(t, i)
	}
	require.NoError(t, j.wait(t))
	require.NoError(t, j.wait(t))
	require.True(t, j.marked.Load())
	require.Len(t, j.begun, 2)
}

func TestAPeriodicJobEndsWithItsProcess(t *testing.T) {
	ctx, stop := context.WithCancelCause(t.Context())
	j := newJobs(ctx, t)
	sigterm := errors.New("signal: terminated")
	stop(sigterm)
	for range 2 {
		err := j.wait(t)
		require.NotErrorIs(t, err, etcdlock.ErrUnconfirmed)
		require.True(t, errors.Is(err, sigterm) || errors.Is(err, context.Canceled), "%v", err)
	}
	require.False(t, j.marked.Load())
}
