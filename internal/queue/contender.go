package queue

import (
	"cmp"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// Contender is an entry of a queue as others see it: by what its value says that it wants.
type Contender struct {
	*mvccpb.KeyValue
	Want wire.Holder

	// Ahead are those that keep it from going in; none for who holds. Who is behind one that
	// waits for everything ahead of itself needs to be told of that one only: so in a long
	// queue they are few.
	Ahead []*Contender
}

// Contenders are the entries of one queue, oldest first, and who waits for whom.
func Contenders(kvs []*mvccpb.KeyValue) []*Contender {
	all := make([]*Contender, 0, len(kvs))
	for _, kv := range kvs {
		all = append(all, &Contender{KeyValue: kv, Want: wire.Wants(kv.Value)})
	}
	slices.SortFunc(all, func(a, b *Contender) int {
		return cmp.Or(cmp.Compare(a.CreateRevision, b.CreateRevision), cmp.Compare(string(a.Key), string(b.Key)))
	})
	for _, c := range all {
		c.lineUp(all)
	}
	return all
}

// lineUp finds out who is ahead. Those who are older know it already.
func (c *Contender) lineUp(all []*Contender) {
	before := c.CreateRevision
	if c.Want.Mode == wire.Upgrading {
		before = boundOf(c.KeyValue, c.Want)
	}
	if c.Want.Mode == wire.Counted && c.fits(all) {
		return
	}
	for _, o := range slices.Backward(all) {
		if o == c || o.CreateRevision >= before || c.Want.Mode == wire.Shared && letsRead(o.KeyValue, c.CreateRevision) {
			continue
		}
		c.Ahead = append(c.Ahead, o)
		if o.Want.Mode == wire.Exclusive || o.Want.Mode == wire.Counted && len(o.Ahead) > 0 {
			return
		}
	}
}

// fits tells whether there are permits for it beside those of all older ones.
func (c *Contender) fits(all []*Contender) bool {
	limit := c.Want.Limit
	for _, o := range all {
		if o.CreateRevision < c.CreateRevision {
			if o.Want.Mode != wire.Counted {
				return false
			}
			limit = min(limit, o.Want.Limit)
		}
	}
	for _, o := range all {
		if o.CreateRevision < c.CreateRevision {
			if o.Want.Permits > limit {
				return false
			}
			limit -= o.Want.Permits
		}
	}
	return c.Want.Permits <= limit
}
