package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/admission"
	"github.com/etcdlock/etcdlock/internal/wire"
)

type snapshot struct {
	kvs   []*mvccpb.KeyValue
	marks []*mvccpb.KeyValue
	nest  bool
}

func drawSnapshot(draw func(n int) int, suffix string, raw []byte) snapshot {
	var s snapshot
	rev := int64(1 + draw(3))
	since := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	n := draw(9)
	var revs []int64
	for i := range n {
		rev += int64(1 + draw(3))
		revs = append(revs, rev)
		slot := wire.Slot{}
		if draw(3) == 0 {
			slot = wire.Slot{N: draw(3), Priority: draw(5) - 1, Takeover: draw(3) == 0}
		}
		key := wire.SlotKey("q", clientv3.LeaseID(i+1), slot)
		switch draw(25) {
		case 0:
			key = "q/z" + strconv.Itoa(i) + suffix
		case 1:
			key = fmt.Sprintf("q/sub/%x", i)
		}
		if _, nested := wire.Nested("q", key); nested {
			s.nest = true
		}
		kv := &mvccpb.KeyValue{Key: []byte(key), CreateRevision: rev, ModRevision: rev}
		h := wire.Holder{Owner: "w", PID: 1, Since: since}
		switch draw(10) {
		case 0:
			kv.Value = raw
		case 1:
			h.Mode = wire.Mode(raw)
			kv.Value = []byte(h.Encode())
		case 2, 3:
			kv.Value = []byte(h.Encode())
		case 4, 5:
			h.Mode = wire.Shared
			kv.Value = []byte(h.Encode())
		case 6:
			h.Mode = wire.Upgrading
			if draw(2) == 0 {
				h.Bound = int64(draw(30)) - 1
			}
			if draw(8) == 0 {
				h.Since = time.Time{}
			}
			kv.Value = []byte(h.Encode())
		default:
			h.Mode, h.Permits, h.Limit, h.Ordered = wire.Counted, 1+draw(3), 3+draw(8)/7-draw(8)/7, draw(6) == 0
			switch draw(40) {
			case 0:
				h.Permits = wire.MostPermits - draw(2)
				h.Limit = wire.MostPermits
			case 1:
				h.Permits = -1
			case 2:
				h.Permits = wire.MostPermits + 1
			}
			kv.Value = []byte(h.Encode())
		}
		s.kvs = append(s.kvs, kv)
	}
	for _, kv := range s.kvs {
		if draw(3) == 0 {
			rev += int64(1 + draw(2))
			kv.ModRevision = rev
		}
		if draw(8) == 0 {
			kv.ModRevision = kv.CreateRevision + int64(draw(20))
		}
	}
	for range draw(4) {
		rev++
		by := &mvccpb.KeyValue{Key: []byte(fmt.Sprintf("q\x00next/%d", rev)), CreateRevision: rev, ModRevision: rev}
		switch {
		case draw(6) == 0 || n == 0:
			by.Value = raw
		default:
			of := s.kvs[draw(n)]
			of = &mvccpb.KeyValue{Key: of.Key, CreateRevision: of.CreateRevision}
			if draw(6) == 0 {
				of.CreateRevision++
			}
			by.Value = []byte(newSuccessor(of))
		}
		s.marks = append(s.marks, by)
	}
	for i := range s.kvs { // in any order
		j := i + draw(len(s.kvs)-i)
		if draw(2) == 0 {
			s.kvs[i], s.kvs[j] = s.kvs[j], s.kvs[i]
		}
	}
	return s
}

func keyOf(kv *mvccpb.KeyValue) string {
	if kv == nil {
		return ""
	}
	return string(kv.Key)
}

func nestedKey(kv *mvccpb.KeyValue) bool { _, n := wire.Nested("q", keyOf(kv)); return n }

var ruleOf = map[wire.Mode]*Rule{wire.Exclusive: nil, wire.Shared: Shared(), wire.Counted: Permits(nil), wire.Upgrading: {wants: wire.Upgrading}}

var seenDiff = map[string]int{}

func compareRules(t require.TestingT, s snapshot) {
	fail := func(format string, args ...any) {
		for _, kv := range s.kvs {
			format += fmt.Sprintf("\n  %q=%q created %d modified %d", kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision)
		}
		require.FailNow(t, fmt.Sprintf(format, args...))
	}
	for _, own := range s.kvs {
		for mode, rule := range ruleOf {
			e := newEntry(string(own.Key), Want{Rule: rule, Value: string(own.Value)}, own.CreateRevision)
			e.modRevision.Store(own.ModRevision)
			if (mode == wire.Counted || mode == wire.Upgrading) && wire.Wants(own.Value).Mode != mode && own.CreateRevision%16 != 0 {
				continue // there is little to be seen
			}
			want, wantErr := oldBlocker(mode, own, s.kvs)
			got, gotErr := e.blocker(own, s.kvs)
			overwritten := (mode == wire.Counted || mode == wire.Upgrading) && wire.Wants(own.Value).Mode != mode
			switch {
			case overwritten:
				if !errors.Is(gotErr, ErrOverwritten) || wantErr == nil {
					fail("overwritten: %v, was %v", gotErr, wantErr)
				}
				seenDiff["overwritten"]++
			case s.nest:
				_, gotNested := wire.Nested("q", keyOf(got))
				same := keyOf(want) == keyOf(got) && fmt.Sprint(wantErr) == fmt.Sprint(gotErr)
				switch {
				case same:
				case wantErr == nil && gotErr == nil && want != nil && gotNested && got.CreateRevision >= want.CreateRevision || wantErr == nil && nestedKey(want) && nestedKey(got):
					seenDiff["nested named first"]++
				default:
					fail("nested %v %s: %q %v, was %q %v", mode, own.Key, keyOf(got), gotErr, keyOf(want), wantErr)
				}
			case keyOf(want) != keyOf(got) || fmt.Sprint(wantErr) != fmt.Sprint(gotErr):
				fail("%q %q: %q %v, was %q %v", mode, own.Key, keyOf(got), gotErr, keyOf(want), wantErr)
			default:
				switch {
				case gotErr != nil:
					seenDiff[string(mode)+" error"]++
				case got != nil:
					seenDiff[string(mode)+" blocked"]++
				default:
					seenDiff[string(mode)+" admitted"]++
				}
			}
			if (want != nil || wantErr != nil) != e.Blocked(string(own.Value), s.kvs) {
				fail("Blocked %v %s", mode, own.Key)
			}
		}
		e := newEntry(string(own.Key), Want{}, own.CreateRevision)
		writer, done, err := oldMarking(own, s.kvs)
		step, gotWriter, gotErr := e.nextUpgradeStep(s.kvs)
		if keyOf(writer) != keyOf(gotWriter) && !done && err == nil || done != (step == admission.AwaitAdmission) || !errors.Is(gotErr, err) || (writer != nil && !done && err == nil) != (step == admission.WriteBound) {
			fail("upgrade of %s: %v %v %v, was %v %v %v", own.Key, step, gotWriter, gotErr, writer, done, err)
		}
		seenDiff[fmt.Sprint("step ", step, err)]++
		var entries []admission.Entry
		for _, kv := range s.kvs {
			entries = append(entries, contends("q", kv, wire.Wants(kv.Value)))
		}
		if only := admission.OnlyReaders(admission.Entry{Created: e.CreateRevision}, entries); only != oldNoneWaits(e.Key, s.kvs) {
			fail("only readers beside %s: %v", own.Key, only)
		}
	}
	was, is := oldContenders(s.kvs), Contenders("none", s.kvs)
	var byAge []*mvccpb.KeyValue
	for i, c := range is {
		byAge = append(byAge, c.KeyValue)
		if c.KeyValue != was[i].KeyValue || len(c.Ahead) != len(was[i].Ahead) {
			fail("contender %s: %d ahead, was %s %d", c.Key, len(c.Ahead), was[i].Key, len(was[i].Ahead))
		}
		for j, o := range c.Ahead {
			if o.KeyValue != was[i].Ahead[j].KeyValue {
				fail("contender %s: ahead %s, was %s", c.Key, o.Key, was[i].Ahead[j].Key)
			}
		}
	}
	if len(byAge) == 0 {
		return
	}
	q := &Queue{from: "q/"}
	var marks []oldMark
	for _, by := range s.marks {
		_, gone := q.candidates(byAge, []*mvccpb.KeyValue{by})
		if len(gone) > 0 {
			continue
		}
		for _, kv := range byAge {
			if string(by.Value) == newSuccessor(kv) {
				marks = append(marks, oldMark{kv, by.ModRevision})
			}
		}
	}
	wantRank, gotRank := oldRank(byAge, marks), q.rank(byAge, s.marks)
	for i := range wantRank {
		if wantRank[i] != gotRank[i] {
			fail("rank %d: %s, was %s; %v", i, gotRank[i].Key, wantRank[i].Key, marks)
		}
	}
	all, _ := q.candidates(s.kvs, s.marks)
	for i, kv := range s.kvs {
		if got, want := admission.MayLead(all[i], all), oldMayLead(kv, s.kvs, marks); got != want {
			fail("%s may lead: %v, was %v", kv.Key, got, want)
		} else {
			seenDiff[fmt.Sprint("may lead ", got, " ", len(marks) > 0)]++
		}
		leader := all[i]
		leader.Successor = 0
		var rivals []*mvccpb.KeyValue
		for j := range s.kvs {
			if admission.Preempts(all[j], leader) {
				rivals = append(rivals, s.kvs[j])
			}
		}
		old := oldRivals(kv, s.kvs)
		if len(old) != len(rivals) {
			fail("rivals of %s", kv.Key)
		}
		for j := range old {
			if old[j] != rivals[j] {
				fail("rivals of %s", kv.Key)
			}
		}
		if len(rivals) > 0 {
			seenDiff["rivals"]++
		}
	}
	_ = context.Background
}

func TestOldRules(t *testing.T) {
	n := 20_000
	if s := os.Getenv("OLD_RULES"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	t.Log("seed", seed)
	raws := [][]byte{nil, []byte("v"), []byte("\xff"), []byte("{"), []byte(`{"next":"q/1.next","rev":2}`), []byte("nested"), []byte(`{"mode":"shared"}`), []byte(`{"since":"2026-01-01T00:00:00Z","mode":"counted","permits":1e9,"limit":5}`), []byte(`{"next":"1","rev":3}`)}
	sufs := []string{"1f", "", "\x00", "stray", "b/1f", ".next", "p5", ".0p5t"}
	for range n {
		compareRules(t, drawSnapshot(r.IntN, sufs[r.IntN(len(sufs))], raws[r.IntN(len(raws))]))
	}
	t.Log(seenDiff)
}

func FuzzOldRules(f *testing.F) {
	f.Add("1f", []byte("v"), []byte{0, 7, 14, 1, 8, 15, 2, 9})
	f.Add("", []byte{}, []byte{0, 1, 0, 1, 0, 3, 1, 0})
	f.Add("\x00", []byte("\xff"), []byte{7, 0, 4, 1, 8, 0, 5, 1, 0})
	f.Add("stray", []byte("{"), []byte{0, 7, 14, 21, 28, 3, 2, 4, 0, 5, 2, 0, 6, 13, 1})
	f.Add("b/1f", []byte("nested"), []byte{0, 1, 0})
	f.Add(".next", []byte(`{"next":"q/1.next","rev":2}`), []byte{0, 7, 1, 14, 8})
	r := rand.New(rand.NewPCG(1, 1))
	for range 40 {
		b := make([]byte, 150)
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		f.Add(".0p3t", []byte(`{"since":"2026-01-01T00:00:00Z","mode":"counted","permits":3,"limit":5}`), b)
	}
	f.Fuzz(func(t *testing.T, suffix string, raw []byte, script []byte) {
		if len(script) > 400 || len(suffix) > 200 || len(raw) > 1000 {
			t.Skip()
		}
		compareRules(t, drawSnapshot(func(n int) int {
			if len(script) == 0 {
				return 0
			}
			b := script[0]
			script = script[1:]
			return int(b) % n
		}, suffix, raw))
	})
}
