package mixed

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/client/v3/concurrency"
	electionpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"

	"github.com/etcdlock/etcdlock"
)

// vacancy is the observation that there is no leader.
const vacancy = "(nobody)"

// observer is a library's way to observe an election: the values it tells.
type observer struct {
	name      string
	vacancies bool // it tells them
	values    func(w *world, name string) <-chan string
}

var observers = []observer{
	{"etcdlock", true, func(w *world, name string) <-chan string {
		ctx, out := w.ctx(), make(chan string, 100)
		e := etcdlock.NewElection(w.session(w.client()), name)
		go func() {
			for leader, err := range e.Observe(ctx) {
				switch {
				case err != nil:
					return // the end of the test
				case leader.Vacant():
					out <- vacancy
				default:
					out <- leader.Value
				}
			}
		}()
		return out
	}},
	{"concurrency", false, func(w *world, name string) <-chan string {
		ctx, out := w.ctx(), make(chan string, 100)
		s, err := concurrency.NewSession(w.client(), concurrency.WithTTL(int(ttl/time.Second)))
		require.NoError(w.t, err)
		w.t.Cleanup(func() { s.Close() })
		leaders := concurrency.NewElection(s, name).Observe(ctx)
		go func() {
			for resp := range leaders {
				out <- string(resp.Kvs[0].Value)
			}
		}()
		return out
	}},
	{"etcdctl elect -l", false, func(w *world, name string) <-chan string {
		out := make(chan string, 100)
		p, err := w.etcdctl("elect", "-l", "-w", "json", name)
		require.NoError(w.t, err)
		go func() {
			for line := range p.lines {
				var shown struct {
					Kvs []jsonBytes `json:"kvs"`
				}
				if json.Unmarshal([]byte(line), &shown) == nil && len(shown.Kvs) > 0 {
					out <- string(shown.Kvs[0].Value)
				}
			}
		}()
		return out
	}},
	{"v3election", false, func(w *world, name string) <-chan string {
		ctx, cancel := context.WithCancel(w.ctx())
		out := make(chan string, 100)
		stream, err := electionpb.NewElectionClient(w.client().ActiveConnection()).Observe(ctx, &electionpb.LeaderRequest{Name: []byte(name)})
		require.NoError(w.t, err)
		ended := make(chan struct{})
		w.t.Cleanup(func() {
			cancel()
			<-ended
		})
		go func() {
			defer close(ended)
			for {
				resp, err := stream.Recv()
				if err != nil {
					return
				}
				out <- string(resp.Kv.Value)
			}
		}()
		return out
	}},
}

type jsonBytes struct {
	Value []byte `json:"value"`
}

// Each observer sees all proclamations and resignations: our observer those of the other libraries, and
// their observers ours. Their observers report no vacancy.
func TestProclaimingAndResigningIsSeenByAll(t *testing.T) {
	kinds := append([]kind{{name: "etcdlock", elect: func(w *world, name, value string) contender {
		return newOurElection(w, w.client(), name, value)
	}}}, foreign...)
	w := newWorld(t)
	name := w.name("election")
	seen := make(map[string]<-chan string)
	for _, o := range observers {
		seen[o.name] = o.values(w, name)
	}
	expect := func(value string) {
		t.Helper()
		for _, o := range observers {
			if value != vacancy || o.vacancies {
				require.Equal(t, value, receive(t, seen[o.name], o.name), "as seen by %s", o.name)
			}
		}
	}
	expect(vacancy)
	ours := etcdlock.NewElection(w.session(w.client()), name)
	for _, k := range kinds {
		term := w.must(k.elect(w, name, k.name+" proposes"))
		expect(k.name + " proposes")
		if term.proclaim != nil {
			require.NoError(t, term.proclaim(w.ctx(), k.name+" proclaims"))
			expect(k.name + " proclaims")
			leader, err := ours.Leader(w.ctx())
			require.NoError(t, err)
			require.Equal(t, term.key, leader.Key)
			require.Equal(t, k.name+" proclaims", leader.Value)
		}
		w.release(term)
		expect(vacancy)
		_, err := ours.Leader(w.ctx())
		require.ErrorIs(t, err, etcdlock.ErrNoLeader)
	}
}

// Over the gateway, where an observer is a request that goes on.
func TestTheGatewayTellsOurLeader(t *testing.T) {
	w := newWorld(t)
	name := w.name("election")
	g := w.gateway()
	var out struct {
		Kv jsonKV `json:"kv"`
	}
	require.ErrorContains(t, g.call(w.ctx(), "/v3/election/leader", map[string]any{"name": []byte(name)}, &out), "no leader")
	term := w.must(newOurElection(w, w.client(), name, "ours"))
	require.NoError(t, g.call(w.ctx(), "/v3/election/leader", map[string]any{"name": []byte(name)}, &out))
	require.Equal(t, "ours", string(out.Kv.Value))
	require.Equal(t, term.key, string(out.Kv.Key))
	require.Equal(t, term.order, out.Kv.CreateRevision)
	w.release(term)
}
