package admission

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/wire"
)

func TestTheStepsOfAnUpgrade(t *testing.T) {
	for name, c := range map[string]struct {
		own    Entry
		others []Entry
		step   UpgradeStep
		writer int64
		err    error
	}{
		"a reader":                    {own: reader(3), others: []Entry{writer(4)}, step: AnnounceIntent},
		"an intent":                   {own: upgrading(3, 8, 0), others: []Entry{reader(4), writer(9)}, step: AwaitAdmission},
		"with writers in line":        {own: upgrading(3, 8, 0), others: []Entry{writer(6), permits(5, 1, 1), writer(9)}, step: WriteBound, writer: 5},
		"with a bound":                {own: upgrading(3, 8, 5), others: []Entry{writer(5), writer(4)}, step: AwaitAdmission},
		"an intent that came later":   {own: upgrading(3, 8, 0), others: []Entry{upgrading(1, 9, 0)}, step: AwaitAdmission},
		"an older intent":             {own: upgrading(3, 8, 0), others: []Entry{upgrading(4, 7, 0)}, err: ErrUpgrading},
		"an intent that has a bound":  {own: upgrading(3, 8, 0), others: []Entry{upgrading(4, 9, 6)}, err: ErrUpgrading},
		"the intent that has a bound": {own: upgrading(3, 9, 6), others: []Entry{upgrading(4, 8, 0)}, step: AwaitAdmission},
	} {
		t.Run(name, func(t *testing.T) {
			all := append([]Entry{c.own}, c.others...)
			step, i, err := NextUpgradeStep(c.own, all)
			require.ErrorIs(t, err, c.err)
			require.Equal(t, c.step, step)
			if c.writer == 0 {
				require.Equal(t, None, i)
			} else {
				require.Equal(t, c.writer, all[i].Created)
			}
		})
	}
}

func TestReadersAreJoinedOnlyAmongReaders(t *testing.T) {
	own := reader(3)
	require.True(t, OnlyReaders(own, []Entry{own}))
	require.True(t, OnlyReaders(own, []Entry{reader(1), own, reader(5)}))
	require.False(t, OnlyReaders(own, []Entry{own, writer(5)}))
	require.False(t, OnlyReaders(own, []Entry{own, permits(5, 1, 1)}))
	require.False(t, OnlyReaders(own, []Entry{upgrading(1, 5, 0), own}))
}

func TestWhatAnEntryMayBecome(t *testing.T) {
	lock, read, upgrade := wire.Holder{}, wire.Holder{Mode: wire.Shared}, wire.Holder{Mode: wire.Upgrading}
	two, three := wire.Holder{Mode: wire.Counted, Permits: 2}, wire.Holder{Mode: wire.Counted, Permits: 3}
	for _, c := range []struct {
		was, wanted wire.Holder
		want        bool
	}{
		{lock, lock, true}, {lock, read, true}, {lock, two, true},
		{read, read, true}, {read, lock, false}, {read, two, false},
		{two, two, true}, {two, three, false}, {two, lock, false}, {two, read, false},
		{upgrade, read, true}, {upgrade, lock, false}, {upgrade, two, false},
	} {
		require.Equal(t, c.want, Becomes(c.was, c.wanted), "%+v", c)
	}
}
