package observe

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/queue"
	"github.com/etcdlock/etcdlock/internal/timeline"
)

// leases answers for the TTL of leases, and counts the questions.
type leases struct {
	clientv3.Lease
	ttl     map[clientv3.LeaseID]int64 // in seconds
	hang    bool
	answers <-chan struct{} // nil: at once
	asked   int
}

func (l *leases) TimeToLive(ctx context.Context, id clientv3.LeaseID, _ ...clientv3.LeaseOption) (*clientv3.LeaseTimeToLiveResponse, error) {
	l.asked++
	if l.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if l.answers != nil {
		<-l.answers
	}
	ttl, ok := l.ttl[id]
	if !ok {
		return nil, errors.New("refused")
	}
	return &clientv3.LeaseTimeToLiveResponse{ID: id, GrantedTTL: ttl}, nil
}

// outageOf are the outages of a test in virtual time, with a last one of some length that has just ended.
func outageOf(length time.Duration, l *leases) (*outages, *timeline.Outage) {
	last := &timeline.Outage{From: time.Now().Add(-length), Until: time.Now(), Revision: 100}
	return &outages{
		last: func() timeline.Outage { return *last }, leases: l,
		defaultTTL: func() time.Duration { return defaultTTL },
	}, last
}

func head(lease, modRevision int64) queue.Head {
	return queue.Head{First: &mvccpb.KeyValue{Key: []byte("e/a"), Lease: lease, ModRevision: modRevision}, Rev: 101}
}

// report E7
func TestALeaderIsUnconfirmedUntilItsLeaseMustHaveBeenRenewed(t *testing.T) {
	for name, tc := range map[string]struct {
		length time.Duration
		head   queue.Head
		until  time.Duration // since the outage; 0: it is not marked at all
		asked  int           // requests for a TTL
	}{
		"nobody leads":                  {time.Hour, queue.Head{Rev: 101}, 0, 0},
		"a key without a lease":         {time.Hour, head(0, 50), 0, 0},
		"a value of after the outage":   {time.Hour, head(1, 101), 0, 0},
		"a short outage":                {4 * time.Second, head(60, 50), 0, 1},
		"a long outage":                 {5 * time.Second, head(60, 50), 62 * time.Second, 1},
		"half of a short TTL":           {2 * time.Second, head(4, 50), 6 * time.Second, 1},
		"less than half of a short TTL": {time.Second, head(4, 50), 0, 1},
		"a lease that etcd hides":       {time.Hour, head(7, 50), defaultTTL + 2*time.Second, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &leases{ttl: map[clientv3.LeaseID]int64{1: 1, 4: 4, 60: 60}}
				o, _ := outageOf(tc.length, l)
				began := time.Now()
				for _, after := range []time.Duration{0, max(0, tc.until-1), tc.until, time.Hour} {
					time.Sleep(max(0, time.Until(began.Add(after))))
					h := o.mark(context.Background(), tc.head)
					require.Equal(t, after < tc.until, h.Unconfirmed, after)
					require.Equal(t, time.Now(), h.At)
				}
				require.Equal(t, tc.asked, l.asked)
			})
		})
	}
}

func TestWithoutAnOutageNoLeaderIsInDoubt(t *testing.T) {
	l := &leases{}
	o, last := outageOf(time.Hour, l)
	*last = timeline.Outage{}
	require.False(t, o.mark(context.Background(), head(60, 50)).Unconfirmed)
	require.Zero(t, l.asked)
}

func TestATTLIsAskedForAgainAfterTheNextOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &leases{ttl: map[clientv3.LeaseID]int64{60: 60}}
		o, last := outageOf(time.Hour, l)
		for range 3 {
			o.mark(context.Background(), head(60, 50))
		}
		require.Equal(t, 1, l.asked)
		time.Sleep(time.Second)
		last.Until = time.Now()
		o.mark(context.Background(), head(60, 50))
		o.mark(context.Background(), head(60, 50))
		require.Equal(t, 2, l.asked)
		require.Len(t, o.ttls, 1)
	})
}

// An answer to a question of before another outage is not kept.
func TestAnAnswerThatIsOlderThanAnOutageIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := make(chan struct{})
		o, last := outageOf(time.Hour, &leases{ttl: map[clientv3.LeaseID]int64{60: 60}, answers: answers})
		marked := make(chan queue.Head)
		go func() { marked <- o.mark(context.Background(), head(60, 50)) }()
		synctest.Wait()
		time.Sleep(time.Second)
		last.Until = time.Now()
		_, known := o.known(last.Until, 60)
		require.False(t, known)
		close(answers)
		require.True(t, (<-marked).Unconfirmed)
		require.Empty(t, o.ttls)
	})
}

func TestARequestForATTLIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _ := outageOf(time.Hour, &leases{hang: true})
		began := time.Now()
		require.True(t, o.mark(context.Background(), head(60, 50)).Unconfirmed, "by the default TTL")
		require.Equal(t, ttlTimeout, time.Since(began))
	})
}
