package admission

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/wire"
)

func writer(created int64) Entry { return Entry{Created: created, Modified: created} }
func reader(created int64) Entry {
	return Entry{Created: created, Modified: created, Mode: wire.Shared}
}
func upgrading(created, modified, bound int64) Entry {
	return Entry{Created: created, Modified: modified, Bound: bound, Mode: wire.Upgrading}
}
func permits(created int64, n, limit int) Entry {
	return Entry{Created: created, Modified: created, Mode: wire.Counted, Permits: n, Limit: limit}
}
func ordered(e Entry) Entry { e.Ordered = true; return e }
func nested(e Entry) Entry  { e.Nested = true; return e }

func TestTheYoungestBlocker(t *testing.T) {
	for name, c := range map[string]struct {
		own    Entry
		others []Entry
		want   int64 // the age of the blocker; 0 for none
	}{
		"a writer alone":                                  {writer(5), nil, 0},
		"a writer behind all":                             {writer(5), []Entry{reader(3), permits(4, 1, 1), writer(1)}, 4},
		"a writer before all":                             {writer(5), []Entry{writer(6), reader(7)}, 0},
		"a reader beside readers":                         {reader(5), []Entry{reader(1), reader(3), reader(6)}, 0},
		"a reader behind a waiting writer":                {reader(5), []Entry{reader(1), writer(3), reader(4)}, 3},
		"a reader behind permits":                         {reader(5), []Entry{permits(3, 1, 9)}, 3},
		"a reader that came before an intent":             {reader(5), []Entry{upgrading(1, 8, 0)}, 0},
		"a reader that came after an intent":              {reader(9), []Entry{upgrading(1, 8, 0)}, 1},
		"a reader between the bound and the intent":       {reader(5), []Entry{upgrading(1, 8, 4)}, 1},
		"a reader before the bound":                       {reader(3), []Entry{upgrading(1, 8, 4)}, 0},
		"an upgrade waits for the readers before it":      {upgrading(3, 8, 0), []Entry{reader(1), reader(5), reader(9)}, 5},
		"an upgrade waits up to its bound":                {upgrading(3, 8, 5), []Entry{reader(1), writer(5), reader(6)}, 1},
		"an upgrade alone":                                {upgrading(3, 8, 0), []Entry{reader(9), writer(10)}, 0},
		"permits that fit":                                {permits(5, 2, 5), []Entry{permits(1, 2, 5), permits(3, 1, 5), permits(6, 5, 5)}, 0},
		"permits that do not fit":                         {permits(5, 2, 5), []Entry{permits(3, 1, 5), permits(1, 3, 5)}, 3},
		"permits behind a waiting request that is larger": {permits(5, 1, 5), []Entry{permits(1, 3, 5), permits(3, 4, 5)}, 3},
		"permits behind a reader":                         {permits(5, 1, 5), []Entry{reader(3), permits(4, 1, 5)}, 4},
		"the smallest ordered limit counts":               {permits(5, 1, 5), []Entry{ordered(permits(1, 1, 2)), permits(3, 1, 5)}, 3},
		"huge permits do not overflow":                    {permits(5, 1, wire.MostPermits), []Entry{permits(3, wire.MostPermits, wire.MostPermits), permits(4, wire.MostPermits, wire.MostPermits)}, 4},
		"a reader of a name inside":                       {reader(5), []Entry{nested(reader(3)), reader(4)}, 3},
		"permits of a name inside":                        {permits(5, 1, 5), []Entry{nested(permits(3, 1, 5)), permits(4, 1, 5)}, 3},
		"a name inside that came later":                   {reader(5), []Entry{nested(reader(6))}, 0},
		"an upgrade beside a name inside":                 {upgrading(5, 6, 1), []Entry{nested(reader(3))}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			for _, all := range [][]Entry{c.others, append([]Entry{c.own}, c.others...)} {
				i, err := Blocker(c.own, all)
				require.NoError(t, err)
				got := int64(0)
				if i != None {
					got = all[i].Created
				}
				require.Equal(t, c.want, got)
			}
		})
	}
}

func TestRequestsThatAreNeverAdmitted(t *testing.T) {
	var limit *LimitError
	_, err := Blocker(permits(5, 1, 5), []Entry{permits(3, 1, 4)})
	require.ErrorAs(t, err, &limit)
	require.Equal(t, LimitError{Theirs: 4, Ours: 5}, *limit)
	_, err = Blocker(permits(5, 1, 5), []Entry{permits(6, 1, 4)})
	require.NoError(t, err, "it is the younger one that is told")
	_, err = Blocker(ordered(permits(5, 1, 5)), []Entry{permits(3, 1, 4)})
	require.NoError(t, err)
	_, err = Blocker(permits(5, 6, 5), nil)
	require.ErrorIs(t, err, ErrTooMuch)
}

func TestTheLineupOfALongQueueIsShort(t *testing.T) {
	all := []Entry{reader(1), reader(2), writer(3), writer(4), reader(5), permits(6, 1, 3), permits(7, 1, 3)}
	require.Equal(t, [][]int{nil, nil, {1, 0}, {2}, {3}, {4, 3}, {5}}, Lineup(all))
	all = []Entry{permits(1, 2, 3), permits(2, 1, 3), permits(3, 1, 3), permits(4, 1, 3)}
	require.Equal(t, [][]int{nil, nil, {1, 0}, {2}}, Lineup(all))
	all = []Entry{reader(1), upgrading(2, 9, 4), reader(3), writer(4), reader(5)}
	require.Equal(t, [][]int{nil, {2, 0}, nil, {2, 1, 0}, {3}}, Lineup(all), "an upgrade waits for a younger reader")
}

// checkLineup checks that a lineup says of each entry what Blocker says, and that all blockers of an
// entry can be reached.
func checkLineup(t require.TestingT, all []Entry) {
	lineup := Lineup(all)
	for i, own := range all {
		first := None
		if len(lineup[i]) > 0 {
			first = lineup[i][0]
		}
		blocker, err := Blocker(own, all)
		if err != nil {
			continue
		}
		require.Equal(t, blocker, first, "%v of %+v", i, all)
		reached := map[int]bool{}
		for todo := slices.Clone(lineup[i]); len(todo) > 0; todo = todo[1:] {
			if !reached[todo[0]] {
				reached[todo[0]] = true
				todo = append(todo, lineup[todo[0]]...)
			}
		}
		fits, _ := own.fits(all)
		for j := range all {
			if own.blockedBy(&all[j], fits) && !slices.ContainsFunc(all, func(e Entry) bool { return e.Nested }) {
				require.True(t, reached[j], "%d does not reach %d in %+v", i, j, all)
			}
		}
	}
}

// drawQueue is any queue, as sessions of this library and others may have written it.
func drawQueue(draw func(n int) int) []Entry {
	var all []Entry
	created := int64(0)
	for range draw(9) {
		created += int64(1 + draw(3))
		e := writer(created)
		switch draw(5) {
		case 0:
			e = reader(created)
		case 1:
			e = upgrading(created, created+int64(draw(20)), int64(draw(25)))
		case 2, 3:
			e = permits(created, 1+draw(3), 2+draw(10)/9)
			e.Ordered = draw(5) == 0
		}
		e.Nested = draw(20) == 0
		e.Priority, e.Takeover = draw(4), draw(2) == 0
		if draw(4) == 0 {
			e.NamedBy(int64(30 + draw(100)))
		}
		all = append(all, e)
	}
	return all
}

// What a waiter need not read or watch does not decide about it.
func TestWhatDoesNotMatter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 5_000 {
		all := drawQueue(r.IntN)
		checkLineup(t, all)
		for _, own := range all {
			i, err := Blocker(own, all)
			if err != nil {
				continue
			}
			verdict := func(keep func(j int, o Entry) bool) int {
				var some []Entry
				for j, o := range all {
					if keep(j, o) {
						some = append(some, o)
					}
				}
				i, err := Blocker(own, some)
				require.NoError(t, err)
				return i
			}
			if !BlockedByYounger(own.Mode) {
				require.Equal(t, i == None, verdict(func(_ int, o Entry) bool { return o.Created < own.Created }) == None)
			}
			if !AnyMayAdmit(own.Mode) && i != None {
				require.NotEqual(t, None, verdict(func(j int, _ Entry) bool { return j == i }))
			}
			if BlockedByEachOlder(own.Mode) && i != None && !slices.ContainsFunc(all, func(o Entry) bool { return o.Nested }) {
				require.False(t, slices.ContainsFunc(all, func(o Entry) bool {
					return o.Created < own.Created && o.Created > all[i].Created
				}))
			}
			if ByAgeAlone(own.Mode) {
				ages := make([]Entry, len(all))
				for j, o := range all {
					ages[j].Created = o.Created
				}
				j, err := Blocker(own, ages)
				require.NoError(t, err)
				require.Equal(t, i, j)
			}
		}
	}
}
