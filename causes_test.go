package etcdlock

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	logged "go.uber.org/zap/zaptest/observer"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// report E15
func TestTheEndOfALeaseIsLoggedAsWhatItWas(t *testing.T) {
	const (
		address = "10.0.0.1:7400"
		expired = "no renewal was answered in time"
		revoked = "the lease was revoked in etcd"
		onOwn   = "the lease was given up on purpose"
		taken   = "a candidate took this process for dead"
	)
	hangs := func(let chan struct{}) func(context.Context, *Term) error {
		return func(ctx context.Context, _ *Term) error {
			<-ctx.Done()
			<-let
			return nil
		}
	}
	for name, c := range map[string]struct {
		opts    []RunOption
		happens func(w *world, n *fakeNet, r *running, term *Term)
		cause   error
		logged  []string // each once, in one line or another
	}{
		"etcd is out of reach": {
			happens: func(w *world, _ *fakeNet, _ *running, _ *Term) { w.Client("a").Cut() },
			cause:   ErrExpired, logged: []string{expired},
		},
		"an administrator revokes it": {
			happens: func(w *world, _ *fakeNet, _ *running, term *Term) { w.RevokeLease(term.of.Lease().ID()) },
			cause:   ErrRevoked, logged: []string{revoked},
		},
		"a candidate condemns it": {
			happens: func(w *world, n *fakeNet, _ *running, _ *Term) { n.kill(address) },
			cause:   ErrRevoked, logged: []string{revoked, taken},
		},
		"the work reports no progress": {
			opts:    []RunOption{WithProgress(5 * time.Second)},
			happens: func(*world, *fakeNet, *running, *Term) {},
			cause:   ErrNoProgress, logged: []string{onOwn + ": no progress reported for 5s"},
		},
		"the work does not stop": {
			opts:    []RunOption{WithStopTimeout(3 * time.Second)},
			happens: func(_ *world, _ *fakeNet, r *running, _ *Term) { r.cancel() },
			cause:   ErrExpired, logged: []string{onOwn + ": the function of Run has not returned 3s after its context ended (context canceled)"},
		},
		"the session is closed": {
			happens: func(w *world, _ *fakeNet, _ *running, _ *Term) { require.NoError(w, w.sessions[0].Close(w.ctx)) },
			cause:   ErrSessionClosed,
		},
		"the session is orphaned": {
			happens: func(w *world, _ *fakeNet, _ *running, _ *Term) { w.orphan(w.sessions[0]) },
			cause:   ErrOrphaned,
		},
		"the client is closed": {
			happens: func(w *world, _ *fakeNet, _ *running, _ *Term) { require.NoError(w, w.Client("a").Close()) },
			cause:   ErrClientClosed,
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				n := newFakeNet()
				core, logs := logged.New(zap.WarnLevel)
				a := w.detecting(n, "a", address, WithLogger(zap.New(core)), watchOn(w.Client("a")))
				let := make(chan struct{})
				stop := sync.OnceFunc(func() { close(let) })
				defer stop()
				run := w.run(NewElection(a, "e"), hangs(let), c.opts...)
				term := run.term()
				next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
				w.pass(time.Second)
				c.happens(w, n, run, term)
				next.get()
				w.pass(time.Second)
				require.ErrorIs(w, term.Err(), c.cause)
				var told []string
				for _, line := range logs.All() {
					if err, ok := line.ContextMap()["error"].(string); ok {
						told = append(told, err)
					}
					told = append(told, line.Message)
				}
				for _, want := range []string{expired, revoked, onOwn, taken} {
					times := 0
					for _, part := range told {
						if strings.Contains(part, want) {
							times++
						}
					}
					wanted := 0
					for _, l := range c.logged {
						if strings.Contains(l, want) {
							wanted = 1
							require.Contains(w, strings.Join(told, "\n"), l)
						}
					}
					require.Equal(w, wanted, times, "%q in %q", want, told)
				}
				stop()
				w.Client("a").Heal()
				run.cancel()
				_, _ = run.result()
			})
		})
	}
}

// report E15: the record that tells of a condemned lease has gone with the lease. It is looked for
// among the changes of the past, which may be refused or need a second try.
func TestTheRecordOfAMarkedLeaseIsLookedFor(t *testing.T) {
	const address = "10.0.0.1:7400"
	for name, c := range map[string]struct {
		revoked bool // by an administrator
		first   func(w *world) simetcd.Action
		asked   int
		told    bool
	}{
		"it is found":                {asked: 1, told: true},
		"the stream breaks":          {asked: 2, told: true, first: func(*world) simetcd.Action { return simetcd.Action{Err: rpctypes.ErrGRPCNoLeader} }},
		"the stream does not answer": {asked: 2, told: true, first: func(*world) simetcd.Action { return simetcd.Action{DropRequest: true} }},
		"the past is compacted": {asked: 1, first: func(w *world) simetcd.Action {
			w.Compact(w.Revision())
			return simetcd.Action{}
		}},
		"an administrator revoked it": {asked: 1, revoked: true},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				n := newFakeNet()
				core, logs := logged.New(zap.WarnLevel)
				a := w.detecting(n, "a", address, WithLogger(zap.New(core)), watchOn(w.Client("a")))
				term := w.campaign(NewElection(a, "e"), "A")
				next := w.candidate(NewElection(w.detecting(n, "b", "10.0.0.2:7400"), "e"), "B")
				record := wire.LivenessKey(a.Lease())
				w.pass(time.Second)

				var asked atomic.Int32
				w.Intercept(func(call simetcd.Call) simetcd.Action {
					req, ok := call.Req.(*pb.WatchRequest)
					if !ok || call.Client != "a" || string(req.GetCreateRequest().GetKey()) != record {
						return simetcd.Action{}
					}
					if asked.Add(1) == 1 && c.first != nil {
						return c.first(w)
					}
					return simetcd.Action{}
				})
				if c.revoked {
					w.RevokeLease(a.Lease())
				} else {
					n.kill(address)
				}
				next.get()
				w.pass(4 * time.Second) // the search for the mark is given up later
				require.ErrorIs(w, term.Err(), ErrRevoked)
				told := logs.FilterMessageSnippet("took this process for dead").Len()
				require.Equal(w, map[bool]int{true: 1}[c.told], told)
				require.EqualValues(w, c.asked, asked.Load())
				require.NotContains(w, w.Client("a").Open().Keys, record, "nothing more is to come")
			})
		})
	}
}
