package exporter

import (
	"context"
	"fmt"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/simetcd"
	"github.com/etcdlock/etcdlock/internal/wire"
)

// rig is an exporter of a simulated etcd.
type rig struct {
	*testing.T
	etcd *simetcd.Server
	x    *Exporter
}

func run(t *testing.T, test func(r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		etcd := simetcd.New(simetcd.Config{Seed: 1})
		defer etcd.Close()
		test(&rig{t, etcd, &Exporter{
			Client: etcd.Client("exporter").Client, Patience: 5 * time.Second, MaxNames: 10,
			Deadlocks: func(context.Context, string) ([]string, error) { return nil, nil },
		}})
	})
}

// scrape returns the labels of all names, each once, and the answer.
func (r *rig) scrape() (names map[string]bool, answer string) {
	w := httptest.NewRecorder()
	r.x.ServeHTTP(w, httptest.NewRequestWithContext(r.Context(), "GET", "/metrics", nil))
	names = make(map[string]bool)
	samples := make(map[string]bool)
	for line := range strings.Lines(w.Body.String()) {
		sample, _, _ := strings.Cut(line, "} ")
		require.False(r, strings.Contains(line, "{") && samples[sample], "twice: %s", line)
		samples[sample] = true
		if m := regexp.MustCompile(`^etcdlock_queue_entries\{name="(.*)",state="holding"`).FindStringSubmatch(line); m != nil {
			names[m[1]] = true
		}
	}
	return names, w.Body.String()
}

func (r *rig) hold(name string) (key string) {
	lease := r.etcd.GrantLease(time.Hour)
	key = wire.Key(name, lease)
	r.etcd.PutKey(key, "", lease)
	return key
}

// Names that come and go make no more series than those of one scrape.
func TestTheSeriesOfAllScrapesAreBounded(t *testing.T) {
	run(t, func(r *rig) {
		r.x.Prefixes = []string{"orders/"}
		all := make(map[string]bool)
		for i := range 100 {
			key := r.hold(fmt.Sprintf("orders/%d", i))
			names, answer := r.scrape()
			require.Contains(t, answer, "etcdlock_exporter_up 1")
			require.Len(t, names, 1)
			for name := range names {
				all[name] = true
			}
			r.etcd.DeleteKey(key)
		}
		require.Len(t, all, r.x.MaxNames+1)
		require.True(t, all[Other])
	})
}

func TestEachNameHasALabelOfItsOwn(t *testing.T) {
	run(t, func(r *rig) {
		r.x.Prefixes, r.x.MaxNames = []string{"a"}, 6
		long := "a" + strings.Repeat("x", 100_000)
		for _, name := range []string{"a\xff", "a\xfe", long + "1", long + "2", "a\"b", "a1"} {
			r.hold(name)
		}
		r.x.Names = []string{Other, Other}
		r.hold("az")
		names, answer := r.scrape()
		require.Len(t, names, 8)
		require.Less(t, len(answer), 20_000)
	})
}

func TestADeadlockUnderTwoPrefixesIsOne(t *testing.T) {
	run(t, func(r *rig) {
		r.x.Prefixes = []string{"a", "ab"}
		r.x.Deadlocks = func(context.Context, string) ([]string, error) { return []string{"abx waits for aby"}, nil }
		_, answer := r.scrape()
		require.Contains(t, answer, "\netcdlock_deadlocks 1\n")
	})
}

// The age of a hold does not have its wait. etcd has no time of a candidate at all.
func TestTheAgeOfAHoldBeginsWithItsGrant(t *testing.T) {
	run(t, func(r *rig) {
		r.x.Names, r.x.Elections = []string{"job"}, []string{"e"}
		entry := func(name, value string) (key string) {
			lease := r.etcd.GrantLease(10 * time.Hour)
			key = wire.Key(name, lease)
			r.etcd.PutKey(key, value, lease)
			return key
		}
		holder := func() string { return wire.Holder{PID: 1, Host: "h", Since: time.Now()}.Encode() }
		first := entry("job", holder())
		entry("e", "a candidate")
		time.Sleep(time.Minute)
		requireAge := func(name string, minutes float64) {
			_, answer := r.scrape()
			require.Regexp(r, fmt.Sprintf(`\netcdlock_holder_age_seconds\{name="%s"\} %g(\.\d*)?\n`, name, 60*minutes), answer)
		}
		requireAge("job", 1) // the exporter is younger
		requireAge("e", 0)
		entry("job", holder())
		time.Sleep(7 * time.Minute)
		requireAge("job", 8)
		requireAge("e", 7)
		r.etcd.DeleteKey(first)
		requireAge("job", 0) // it has waited for 7 minutes
		time.Sleep(time.Minute)
		requireAge("job", 1)
	})
}
