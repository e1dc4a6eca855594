package waitgraph

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// edges writes a cycle as "x1>y0 y1>x0".
func edges(c Cycle) string {
	var all []string
	for _, e := range c {
		all = append(all, e.Waiter+">"+e.For)
	}
	return strings.Join(all, " ")
}

func cycles(all ...Entry) []string {
	var found []string
	for _, c := range New(all).Cycles() {
		found = append(found, edges(c))
	}
	return found
}

func waits(key string, order int64, ahead string, holds ...string) Entry {
	return Entry{Key: key, Order: order, Ahead: []string{ahead}, Holds: holds}
}

func TestTwoThatHoldWhatTheOtherWaitsFor(t *testing.T) {
	all := []Entry{{Key: "x0", Order: 1}, {Key: "y0", Order: 2}, waits("y1", 3, "y0", "x0"), waits("x1", 4, "x0", "y0")}
	require.Equal(t, []string{"y1>y0 x1>x0"}, cycles(all...))
	require.Empty(t, cycles(all[:3]...))
	g := New(all)
	require.Equal(t, "x1>x0 y1>y0", edges(g.CycleOfVictim("x1", 4)))
	require.Nil(t, g.CycleOfVictim("y1", 3), "of the two, the younger one is the victim")
	require.Nil(t, g.CycleOfVictim("x0", 1))
	require.Nil(t, g.CycleOfVictim("x1", 5), "an entry that has the same key, but is another one")
	require.Nil(t, g.CycleOfVictim("z", 4))
}

func TestAPlaceInAQueueIsPartOfACycle(t *testing.T) {
	// x1 waits behind b1, which holds nothing. The owner of x1 holds y0, which a1 waits for.
	require.Equal(t, []string{"a1>y0 x1>b1 b1>x0"},
		cycles(Entry{Key: "x0", Order: 1}, Entry{Key: "y0", Order: 2}, waits("a1", 3, "y0", "x0"), waits("b1", 4, "x0"), waits("x1", 5, "b1", "y0")))
}

func TestAWaiterForItsOwnHold(t *testing.T) {
	all := []Entry{{Key: "s0", Order: 1}, waits("s1", 2, "s0", "s0")}
	require.Equal(t, []string{"s1>s0"}, cycles(all...))
	require.Equal(t, "s1>s0", edges(New(all).CycleOfVictim("s1", 2)))
}

func TestEntriesOfASetAreOneNode(t *testing.T) {
	set := func(e Entry) Entry { e.Set = "s"; return e }
	// p1 waits and q1 does not. The waiter for q1 waits for p1's sake.
	all := []Entry{
		{Key: "p0", Order: 1}, {Key: "m0", Order: 2},
		set(waits("p1", 3, "p0", "m0")), set(Entry{Key: "q1", Order: 3, Holds: []string{"m0"}}),
		waits("q2", 4, "q1", "p0"),
	}
	require.Equal(t, []string{"p1>p0 q2>q1"}, cycles(all...))
	require.Equal(t, "q2>q1 p1>p0", edges(New(all).CycleOfVictim("q2", 4)))
}

func TestAtOneOrderTheKeysDecideWhichIsTheVictim(t *testing.T) {
	g := New([]Entry{{Key: "x0", Order: 1}, {Key: "y0", Order: 2}, waits("y1", 3, "y0", "x0"), waits("x1", 3, "x0", "y0")})
	require.NotNil(t, g.CycleOfVictim("y1", 3))
	require.Nil(t, g.CycleOfVictim("x1", 3))
}

func TestALongQueueIsSearchedSoon(t *testing.T) {
	all := []Entry{{Key: "q00000", Order: 1}}
	for i := range 50_000 {
		all = append(all, waits(fmt.Sprintf("q%05d", i+1), int64(i+2), fmt.Sprintf("q%05d", i), fmt.Sprintf("other%d", i)))
	}
	began := time.Now()
	require.Empty(t, cycles(all...))
	require.Less(t, time.Since(began), 10*time.Second, "minutes with a search from each place")
}

// The same as a search of all paths finds, on random graphs: nodes of one to three entries, some of
// which wait, hold keys of others, of themselves or of no entry, and are as old as others.
func TestCyclesAreThoseOfASearchOfAllPaths(t *testing.T) {
	deadlocks, victims := 0, 0
	for seed := range uint64(20_000) {
		all := randomEntries(rand.New(rand.NewPCG(seed, 1)))
		g, b := New(all), newBrute(all)
		found := g.Cycles()
		for _, c := range found {
			b.checkCycle(t, seed, c)
			require.True(t, slices.ContainsFunc(c, func(e Edge) bool { return b.holds(b.owner[e.Waiter]) }), "seed %d", seed)
		}
		for n := range b.nodes {
			most := b.shortest(n, func(int) bool { return true })
			if most == 0 || !b.holds(n) {
				continue
			}
			deadlocks++
			require.True(t, slices.ContainsFunc(found, func(c Cycle) bool { return len(c) == most && b.contains(c, n) }),
				"seed %d: of node %d no cycle of %d is told", seed, n, most)
		}
		for _, e := range all {
			n := b.owner[e.Key]
			c := g.CycleOfVictim(e.Key, b.nodes[n][0].Order)
			require.Len(t, c, b.shortest(n, func(o int) bool { return b.older(o, n) }), "seed %d: entry %s", seed, e.Key)
			if c != nil {
				victims++
				b.checkCycle(t, seed, c)
				require.Equal(t, n, b.owner[c[0].Waiter])
			}
		}
	}
	require.Greater(t, deadlocks, 5000)
	require.Greater(t, victims, 5000)
}

func randomEntries(rnd *rand.Rand) []Entry {
	keys := []string{"a", "b", "c", "d", "e", "f", "g", "h"}[:2+rnd.IntN(7)]
	var all []Entry
	for i, key := range keys {
		e := Entry{Key: key, Order: int64(rnd.IntN(5))}
		if rnd.IntN(3) == 0 {
			e.Set = fmt.Sprint("set", rnd.IntN(2))
		}
		for _, other := range keys[:i] { // and so in no cycle, unless by holds or by sets
			if rnd.IntN(3) == 0 {
				e.Ahead = append(e.Ahead, other)
			}
		}
		for _, held := range append(keys, "gone") {
			if rnd.IntN(6) == 0 {
				e.Holds = append(e.Holds, held)
			}
		}
		all = append(all, e)
	}
	rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// brute knows a graph by its definition.
type brute struct {
	nodes [][]Entry
	owner map[string]int // of an entry
	waits [][]Edge       // by node and node: from*len(nodes)+to
}

func newBrute(all []Entry) *brute {
	b := &brute{owner: make(map[string]int)}
	for _, e := range all {
		n := slices.IndexFunc(b.nodes, func(n []Entry) bool { return e.Set != "" && n[0].Set == e.Set })
		if n < 0 {
			n = len(b.nodes)
			b.nodes = append(b.nodes, nil)
		}
		b.nodes[n] = append(b.nodes[n], e)
		b.owner[e.Key] = n
	}
	b.waits = make([][]Edge, len(b.nodes)*len(b.nodes))
	for from := range b.nodes {
		for to := range b.nodes {
			b.waits[from*len(b.nodes)+to] = b.edges(from, to)
		}
	}
	return b
}

func (b *brute) edges(from, to int) (all []Edge) {
	waits := slices.ContainsFunc(b.nodes[to], func(e Entry) bool { return len(e.Ahead) > 0 })
	for _, e := range b.nodes[from] {
		for _, key := range e.Ahead {
			holds := slices.ContainsFunc(b.nodes[to], func(o Entry) bool { return slices.Contains(o.Holds, key) })
			if waits && (holds || b.owner[key] == to && from != to) {
				all = append(all, Edge{e.Key, key})
			}
		}
	}
	return all
}

func (b *brute) holds(n int) bool {
	return slices.ContainsFunc(b.nodes[n], func(e Entry) bool { return len(e.Holds) > 0 })
}

func (b *brute) older(n, o int) bool {
	x, y := b.nodes[n][0], b.nodes[o][0]
	return x.Order < y.Order || x.Order == y.Order && x.Key < y.Key
}

func (b *brute) contains(c Cycle, n int) bool {
	return slices.ContainsFunc(c, func(e Edge) bool { return b.owner[e.Waiter] == n })
}

// shortest is the length of the shortest cycle through a node, by all paths; 0 for none.
func (b *brute) shortest(from int, usable func(int) bool) int {
	most := 0
	var walk func(at, length int, on []int)
	walk = func(at, length int, on []int) {
		for to := range b.nodes {
			switch {
			case len(b.waits[at*len(b.nodes)+to]) == 0:
			case to == from:
				if most == 0 || length < most {
					most = length
				}
			case usable(to) && !slices.Contains(on, to):
				walk(to, length+1, append(slices.Clone(on), to))
			}
		}
	}
	walk(from, 1, nil)
	return most
}

// checkCycle fails unless each edge of a cycle is a wait, and leads to the next edge's node.
func (b *brute) checkCycle(t *testing.T, seed uint64, c Cycle) {
	t.Helper()
	for i, e := range c {
		from, to := b.owner[e.Waiter], b.owner[c[(i+1)%len(c)].Waiter]
		require.Contains(t, b.waits[from*len(b.nodes)+to], e, "seed %d: %v", seed, c)
	}
}
