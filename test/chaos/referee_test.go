package main

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// at is a holding between two milliseconds.
func at(client string, weight int, token int64, from, to int) *holding {
	return &holding{
		Client: client, Name: "n", Weight: weight, Token: token, End: isOver,
		Call: ms(from) - 1, From: ms(from), To: ms(to), Gone: ms(to) + 1,
	}
}

func ms(n int) instant { return instant(time.Duration(n) * time.Millisecond) }

func TestTheWorstOverlapCountsHoldsThatMustNotStandTogether(t *testing.T) {
	for name, c := range map[string]struct {
		capacity int
		holds    []*holding
		want     time.Duration
	}{
		"one after the other":                    {1, []*holding{at("a", 1, 1, 0, 10), at("b", 1, 2, 15, 20), at("a", 1, 3, 22, 30)}, -2 * time.Millisecond},
		"two at one time":                        {1, []*holding{at("a", 1, 1, 0, 10), at("b", 1, 2, 7, 20)}, 3 * time.Millisecond},
		"the older one ends after a third began": {1, []*holding{at("a", 1, 1, 0, 50), at("b", 1, 2, 10, 20), at("c", 1, 3, 30, 40)}, 40 * time.Millisecond},
		"readers stand together":                 {3, []*holding{at("a", 1, 1, 0, 10), at("b", 1, 1, 5, 20)}, none},
		"a writer among readers":                 {3, []*holding{at("a", 1, 1, 0, 10), at("b", 1, 1, 5, 20), at("c", 3, 2, 18, 30)}, 2 * time.Millisecond},
		"one too many":                           {2, []*holding{at("a", 1, 1, 0, 10), at("b", 1, 2, 5, 20), at("c", 1, 3, 8, 30)}, 2 * time.Millisecond},
	} {
		require.Equal(t, c.want, overlap(c.holds, c.capacity), name)
	}
}

func TestATokenThatDoesNotGrowIsFound(t *testing.T) {
	require.Empty(t, tokens([]*holding{at("a", 1, 1, 0, 10), at("b", 1, 2, 15, 20)}, 1))
	require.Len(t, tokens([]*holding{at("a", 1, 2, 0, 10), at("b", 1, 2, 15, 20)}, 1), 1)
	require.Len(t, tokens([]*holding{at("a", 1, 5, 0, 10), at("b", 1, 2, 15, 20), at("c", 1, 4, 25, 30)}, 1), 2)
	require.Empty(t, tokens([]*holding{at("a", 1, 2, 0, 10), at("a", 1, 2, 15, 20)}, 1), "one client, one token")
	require.Empty(t, tokens([]*holding{at("a", 1, 2, 0, 10), at("b", 1, 2, 15, 20)}, 3), "readers")
}

func TestBrokenHistoriesAreCaught(t *testing.T) {
	open := at("a", 1, 1, 0, 10)
	open.Gone = 0 // no watch ever reported the deletion of the key
	late := at("a", 1, 1, 0, 10)
	late.Gone = ms(30) // the watch heard late: that proves nothing against it
	for _, c := range []struct {
		kind  string
		what  string
		holds []*holding
		want  verdict
	}{
		{"mutex", "in turn", []*holding{at("a", 1, 1, 0, 10), at("b", 1, 2, 15, 20)}, sound},
		{"mutex", "granted while another held", []*holding{at("a", 1, 1, 0, 10), at("b", 1, 2, 5, 20)}, broken},
		{"mutex", "a smaller token", []*holding{at("a", 1, 3, 0, 10), at("b", 1, 2, 15, 20)}, broken},
		{"mutex", "the same token", []*holding{at("a", 1, 2, 0, 10), at("b", 1, 2, 15, 20)}, broken},
		{"mutex", "the same token of one client", []*holding{at("a", 1, 2, 0, 10), at("a", 1, 2, 15, 20)}, sound},
		{"mutex", "an open release, then nobody", []*holding{open}, sound},
		{"mutex", "an open release, then one", []*holding{open, at("b", 1, 2, 15, 20)}, sound},
		{"mutex", "a deletion heard of late", []*holding{late, at("b", 1, 2, 15, 20)}, sound},
		{"rwmutex", "readers beside each other", []*holding{at("a", 1, 5, 0, 10), at("b", 1, 4, 5, 20)}, sound},
		{"rwmutex", "a writer among readers", []*holding{at("a", 1, 1, 0, 10), at("w", 3, 2, 5, 20)}, broken},
		{"rwmutex", "a reader beside a writer", []*holding{at("w", 3, 1, 0, 10), at("a", 1, 2, 5, 20)}, broken},
		{"rwmutex", "a writer with a reader's token", []*holding{at("a", 1, 2, 0, 10), at("w", 3, 2, 15, 20)}, broken},
		{"rwmutex", "a reader with a writer's token", []*holding{at("w", 3, 2, 0, 10), at("a", 1, 2, 15, 20)}, broken},
		{"rwmutex", "readers, then a writer with more", []*holding{at("a", 1, 1, 0, 10), at("b", 1, 1, 1, 9), at("w", 3, 2, 15, 20)}, sound},
		{"semaphore", "as many as there are permits", []*holding{at("a", 1, 1, 0, 10), at("b", 1, 2, 5, 20)}, sound},
		{"semaphore", "one too many", []*holding{at("a", 1, 1, 0, 10), at("b", 1, 2, 5, 20), at("c", 1, 3, 8, 30)}, broken},
		{"semaphore", "all permits beside one", []*holding{at("a", 1, 1, 0, 10), at("b", 2, 2, 5, 20)}, broken},
		{"semaphore", "a smaller token", []*holding{at("a", 2, 3, 0, 10), at("b", 1, 2, 15, 20)}, broken},
	} {
		t.Run(c.kind+", "+c.what, func(t *testing.T) {
			got, err := check(kindOf(c.kind), c.holds, nil)
			require.Equal(t, c.want, got)
			require.Equal(t, c.want == sound, err == nil)
		})
	}
}

func kindOf(name string) kind {
	return kinds[slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })]
}

// A leader is first in etcd, from the beginning of its belief to the end.
func TestALeaderWhoIsNotFirstIsCaught(t *testing.T) {
	e := &evidence{lives: map[string][]*life{
		"n/a": {{created: 1, came: ms(0), deleted: 5, gone: ms(11)}},
		"n/b": {{created: 2, came: ms(1), deleted: 6, gone: ms(31)}},
		"n/c": {{created: 3, came: ms(2), deleted: 7, gone: ms(41)}},
	}}
	term := func(client string, entry int64, from, to int) *holding {
		h := at(client, 1, entry, from, to)
		h.Entry, h.Gone = entry, e.lives["n/"+client][0].gone
		return h
	}
	a, b, c := term("a", 1, 5, 10), term("b", 2, 15, 30), term("c", 3, 32, 40)
	long := int(slack / time.Millisecond)
	for what, test := range map[string]struct {
		holds []*holding
		want  verdict
	}{
		"in turn":                                    {[]*holding{a, b, c}, sound},
		"one who had no turn":                        {[]*holding{a, c}, sound},
		"the third while the second waited":          {[]*holding{a, term("c", 3, 15, 20), term("b", 2, 25, 30)}, broken},
		"after the key was gone":                     {[]*holding{a, b, term("c", 3, 45, 50)}, broken},
		"before its turn, by more than a watch lags": {[]*holding{term("b", 2, -2*long, 3-2*long)}, broken},
	} {
		got, _ := check(kindOf("election"), test.holds, e.told(test.holds))
		require.Equal(t, test.want, got, what)
	}
}

func TestAThousandHoldsWithOneOverlapAreToldApartFromAThousandWithout(t *testing.T) {
	var holds []*holding
	for i := range 1000 {
		holds = append(holds, at(string(rune('a'+i%3)), 1, int64(i+1), 10*i, 10*i+9))
	}
	judged := func() verdict {
		v, _ := check(kindOf("mutex"), holds, nil)
		return v
	}
	require.Equal(t, sound, judged())
	holds[500].To = holds[501].From + 1
	holds[500].Gone = holds[500].To
	require.Equal(t, broken, judged())
	require.Equal(t, time.Duration(1), overlap(holds, 1))
}

func TestABeliefEndsWhenItsProcessDoes(t *testing.T) {
	events := []event{
		{What: isHeld, Client: "a", Name: "n", Seq: 1, At: ms(1), Call: ms(0), Token: 1, Weight: 1},
		{What: wasCut, Client: "a", At: ms(5)},
		{What: wasKilled, Client: "a", At: ms(5)},
		{What: isHeld, Client: "b", Name: "n", Seq: 1, At: ms(10), Call: ms(0), Token: 2, Weight: 1},
		{What: wasCut, Client: "b", At: ms(20)},
		{What: wasStopped, Client: "b", At: ms(20)},
		{What: isHeld, Client: "c", Name: "n", Seq: 1, At: ms(30), Call: ms(0), Token: 3, Weight: 1},
		{What: wasResumed, Client: "b", At: ms(40)},
		{What: isLost, Client: "b", Name: "n", Seq: 1, At: ms(43), Late: refused},
		{What: isFreed, Client: "b", Name: "n", Seq: 1, At: ms(44), Call: ms(43), Error: "lost"},
		{What: wasHealed, Client: "b", At: ms(44)},
		{What: isLost, Client: "c", Name: "n", Seq: 1, At: ms(50)},
	}
	holds := holdings(events, time.Millisecond)
	require.Len(t, holds, 3)
	a, b, c := holds[0], holds[1], holds[2]
	require.Equal(t, ms(5), a.To)
	require.Equal(t, wasKilled, a.End)
	require.Equal(t, ms(20), b.To)
	require.Equal(t, wasStopped, b.End)
	require.Equal(t, 3*time.Millisecond, b.Told)
	require.Equal(t, refused, b.Late)
	require.False(t, b.Unforced)
	require.True(t, c.Unforced, "no fault was on it")
	require.Equal(t, []time.Duration{5 * time.Millisecond, 10 * time.Millisecond},
		successions(events, []span{{ms(5), ms(6)}, {ms(20), ms(44)}}, "n"))
}

func TestTheWatchesTellWhenAKeyCameAndWent(t *testing.T) {
	e := &evidence{lives: map[string][]*life{}}
	put := func(rev int64) *clientv3.Event {
		return &clientv3.Event{Type: clientv3.EventTypePut, Kv: &mvccpb.KeyValue{Key: []byte("k"), CreateRevision: rev, ModRevision: rev}}
	}
	del := func(rev int64) *clientv3.Event {
		return &clientv3.Event{Type: clientv3.EventTypeDelete, Kv: &mvccpb.KeyValue{Key: []byte("k"), ModRevision: rev}}
	}
	e.take(put(3), ms(1))
	e.take(del(5), ms(3))
	e.take(put(7), ms(4))
	// Another member tells the same, later, and something new.
	e.take(put(3), ms(5))
	e.take(del(5), ms(6))
	e.take(put(7), ms(7))
	e.take(del(9), ms(8))

	_, ok := e.of("k", 2)
	require.False(t, ok)
	l, ok := e.of("k", 4)
	require.True(t, ok)
	require.Equal(t, life{3, 5, ms(1), ms(3)}, l)
	_, ok = e.of("k", 6)
	require.False(t, ok)
	l, _ = e.of("k", 8)
	require.Equal(t, life{7, 9, ms(4), ms(8)}, l)
}

func TestTheResourceRefusesASmallerToken(t *testing.T) {
	r, err := newResource()
	require.NoError(t, err)
	defer r.close()
	w, err := newWriter(r.addr())
	require.NoError(t, err)
	defer w.conn.Close()
	require.Equal(t, accepted, w.write("n", 5, true))
	require.Equal(t, accepted, w.write("n", 5, true))
	require.Equal(t, refused, w.write("n", 4, true))
	require.Equal(t, refused, w.write("n", 4, false))
	require.Equal(t, accepted, w.write("n", 7, false))
	require.Equal(t, accepted, w.write("n", 6, false), "readers are not ahead of each other")
	require.Equal(t, refused, w.write("n", 6, true))
	require.Equal(t, accepted, w.write("other", 4, true))
	require.Equal(t, 3, r.refusals("n"))
}
