package queue

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/simetcd"
)

// lagging answers what any member may answer as a member does that is behind.
type lagging struct {
	clientv3.KV
	at int64 // the revision that it has reached
}

func (l lagging) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	op := clientv3.OpGet(key, opts...)
	if !op.IsSerializable() {
		return l.KV.Get(ctx, key, opts...)
	}
	resp, err := l.KV.Get(ctx, key, append(opts, clientv3.WithRev(l.at))...)
	if err == nil {
		resp.Header.Revision = l.at
	}
	return resp, err
}

// lags has the member of a session stay behind from now on.
func (p *party) lags() { p.kv = lagging{p.kv, p.Revision()} }

// The member that answers a holder lags. The list of entries behind is shorter than the queue, or has entries
// that are gone. The comparison of the release finds that out, and no entry has to settle.
func TestTheListOfAMemberThatLagsIsFoundOut(t *testing.T) {
	for _, c := range []struct {
		title  string
		before []string // are in the queue when the member stops
		gone   string   // is deleted after that
		after  []string // come after that
		hold   []string // in this order
	}{
		{"it has no entry", nil, "", []string{"b", "c"}, []string{"b", "c"}},
		{"it has no entry, and one that is not marked has come", nil, "", []string{".b", "c"}, []string{".b", "c"}},
		{"it has the first entry", []string{"b"}, "", []string{"c", "d"}, []string{"b", "c", "d"}},
		{"it has no marked entry", []string{".b"}, "", []string{"c", "d"}, []string{".b", "c", "d"}},
		{"its first entry is gone", []string{"b", "c"}, "b", []string{"d"}, []string{"c", "d"}},
		{"its only entry is gone", []string{"b"}, "b", []string{"c"}, []string{"c"}},
		{"its only entry is gone, and nobody has come", []string{"b"}, "b", nil, nil},
		{"its first entry is gone, and was not marked", []string{".b", "c"}, ".b", []string{"d"}, []string{"c", "d"}},
	} {
		t.Run(c.title, func(t *testing.T) {
			simulate(t, func(r *rig) {
				all := r.lineUp("a")
				a := all["a"]
				last := a.holds(soon)
				for name, p := range r.lineUp(c.before...) {
					all[name] = p
				}
				a.lags()
				if c.gone != "" {
					all[c.gone].cancel()
					r.DeleteKey(all[c.gone].entry.Key) // by another client, which tells nobody
				}
				for name, p := range r.lineUp(c.after...) {
					all[name] = p
				}
				require.True(r, a.released(soon))
				for _, name := range c.hold {
					token := all[name].holds(soon)
					require.Greater(r, token, last, name)
					last = token
					all[name].lags() // nobody comes any more, and its list may be part of its turn
					require.True(r, all[name].released(soon))
				}
				require.Empty(r, r.Keys("q/"))
			})
		})
	}
}

// An entry is cancelled, and its member lags: those behind it are not in its list. It tells them nevertheless.
func TestAnEntryThatIsCancelledTellsThoseThatItsMemberDoesNotKnow(t *testing.T) {
	simulate(t, func(r *rig) {
		all := r.lineUp(".a", "b")
		b := all["b"]
		b.lags()
		c := r.comes("c")
		require.True(r, c.entry.asleep)
		c.wait()
		b.cancel()
		<-b.got
		require.True(r, b.released(soon))
		c.waits()
		all[".a"].leave()
		c.holds(soon)
	})
}

// The entry ahead is gone, and the member that answers a waiter lags: it shows that entry still. The answer is of
// no use, and the next read is not for any member.
func TestAWaiterWhoseMemberLagsReadsAgain(t *testing.T) {
	simulate(t, func(r *rig) {
		all := r.lineUp(".a", "b")
		b := all["b"]
		time.Sleep(2 * settleLast)
		b.lags()
		b.client.ResetCounts()
		all[".a"].leave()
		b.holds(soon)
		require.Equal(r, 2, b.client.Count(simetcd.Range))
		require.Zero(r, b.client.Count(simetcd.TxnReadOnly))
	})
}
