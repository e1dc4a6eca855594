package lockui_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/etcdlocktest"
	"github.com/etcdlock/etcdlock/lockui"
)

func TestThePageShowsHoldersAndWaiters(t *testing.T) {
	run(t, func(r *rig) {
		require.Contains(t, r.get("/names"), "No lock, election or semaphore is in use.")
		r.hold("alpha", "jobs/nightly")
		r.wait("beta", "jobs/nightly")
		names := r.get("/names")
		require.Contains(t, names, "jobs/nightly")
		require.Contains(t, names, "alpha")
		require.Contains(t, names, "1 name in use")
		r.settle() // the leases are read
		name := r.get("/name?name=jobs/nightly")
		require.Contains(t, name, "Held by")
		require.Contains(t, name, "1 entry waits")
		require.Contains(t, name, "beta")
		require.Contains(t, name, " of 10 s")
		sessions := r.get("/sessions")
		require.Contains(t, sessions, "2 sessions")
		require.Equal(t, http.StatusSeeOther, r.status(http.MethodGet, "/"))
		require.Equal(t, http.StatusNotFound, r.status(http.MethodGet, "/nothing"))
		require.Contains(t, r.get("/metrics"), `etcdlock_queue_entries{name="jobs/nightly",state="waiting"} 1`)
	})
}

func TestTheAPIAnswersInJSON(t *testing.T) {
	run(t, func(r *rig) {
		r.hold("alpha", "jobs/nightly")
		var a struct {
			Revision int64
			Data     struct {
				Names []struct {
					Name   string
					Holder struct{ Name string }
				}
			}
		}
		require.NoError(t, json.Unmarshal([]byte(r.get("/api/names")), &a))
		require.NotZero(t, a.Revision)
		require.Equal(t, "jobs/nightly", a.Data.Names[0].Name)
		require.Equal(t, "alpha", a.Data.Names[0].Holder.Name)
		for _, route := range []string{"name?name=jobs/nightly", "sessions", "deadlocks", "doctor"} {
			require.True(t, json.Valid([]byte(r.get("/api/"+route))), route)
		}
		w := r.do(request(http.MethodGet, "/api/name"))
		require.Equal(t, http.StatusBadRequest, w.Code)
		require.Contains(t, w.Body.String(), `"error"`)
	})
}

func TestAStreamSendsEachChangeAndNothingElse(t *testing.T) {
	run(t, func(r *rig) {
		v := r.view("/names")
		require.Equal(t, 1, v.messages())
		time.Sleep(time.Minute)
		require.Equal(t, 1, v.messages(), "nothing has changed")
		lock := r.hold("alpha", "jobs/nightly")
		require.Contains(t, v.String(), "jobs/nightly")
		before := v.messages()
		require.NoError(t, lock.Unlock(r.Context()))
		r.settle()
		require.Equal(t, before+1, v.messages())
	})
}

func TestAStreamContinuesFromWhatTheViewerHasSeen(t *testing.T) {
	run(t, func(r *rig) {
		r.hold("alpha", "jobs/nightly")
		_, id, _ := strings.Cut(r.get("/deadlocks"), `data-id="`)
		id, _, _ = strings.Cut(id, `"`)
		require.Zero(t, r.view("/deadlocks?since="+id).messages())
		require.Zero(t, r.view("/deadlocks", func(q *http.Request) { q.Header.Set("Last-Event-ID", id) }).messages())
		require.Equal(t, 1, r.view("/deadlocks?since=another-1-00").messages(), "of another start of the server")
	})
}

func TestManyViewersCostEtcdNoMoreThanOne(t *testing.T) {
	sent := make(map[int]int)
	for _, viewers := range []int{1, 50} {
		run(t, func(r *rig) {
			lock := r.hold("alpha", "jobs/nightly")
			for range viewers {
				r.view("/names")
			}
			before := r.self.Requests()
			for range 10 {
				require.NoError(t, lock.Unlock(r.Context()))
				lock = r.hold("alpha", "jobs/nightly")
			}
			sent[viewers] = r.self.Requests() - before
		})
	}
	require.Less(t, sent[1], 40, "for beats, and a lease in each of 10 s")
	require.LessOrEqual(t, sent[50], sent[1]+2)
}

func TestASlowViewerDelaysNobody(t *testing.T) {
	run(t, func(r *rig) {
		slow := &viewer{header: make(http.Header), ended: make(chan struct{}), stuck: make(chan struct{})}
		r.viewAs(slow, "/names")
		fast := r.view("/names")
		lock := r.hold("alpha", "jobs/nightly")
		require.Contains(t, fast.String(), "jobs/nightly")
		require.NoError(t, lock.Unlock(r.Context()))
		close(slow.stuck) // its deadline passes
		<-slow.ended
	})
}

func TestThePageSaysSinceWhenEtcdIsAway(t *testing.T) {
	run(t, func(r *rig) {
		r.hold("alpha", "jobs/nightly")
		v := r.view("/names")
		r.etcd.Hang()
		time.Sleep(6 * time.Second)
		page := r.get("/names")
		require.Contains(t, page, "etcd does not answer since")
		require.Contains(t, page, "What you see is from")
		require.Contains(t, page, "jobs/nightly")
		require.Contains(t, v.String(), "etcd does not answer since")
		require.Contains(t, r.get("/api/names"), "silent_since")
		r.etcd.Resume()
		time.Sleep(20 * time.Second)
		require.NotContains(t, r.get("/names"), "does not answer")
		require.NotContains(t, r.get("/api/names"), "silent_since")
	})
}

// The message has to send the operator to the permissions, and not to etcd.
func TestThePageSaysThatEtcdRefusesIt(t *testing.T) {
	etcdlocktest.Run(t, func(t *testing.T, etcd *etcdlocktest.Etcd) {
		client := etcd.Process("ui").Client()
		client.KV = denied{client.KV}
		ui, err := lockui.New(client, lockui.WithSlog(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		defer ui.Close()
		time.Sleep(time.Second)
		w := httptest.NewRecorder()
		ui.ServeHTTP(w, request(http.MethodGet, "/names"))
		require.Contains(t, w.Body.String(), "etcd refuses its client since")
		require.Contains(t, w.Body.String(), "permission denied")
		require.Contains(t, w.Body.String(), "Nothing has been read yet.")
	})
}

// denied is a client whose user may read nothing.
type denied struct{ clientv3.KV }

func (denied) Get(context.Context, string, ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	return nil, rpctypes.ErrPermissionDenied
}

func TestThePageContinuesAfterACompactionAndARestart(t *testing.T) {
	run(t, func(r *rig) {
		r.etcd.Stop()
		r.etcd.Start()
		r.etcd.Compact()
		time.Sleep(20 * time.Second)
		r.hold("alpha", "jobs/nightly")
		r.settle()
		require.Contains(t, r.get("/names"), "jobs/nightly")
	})
}

func TestTheTimelineHasEachChange(t *testing.T) {
	run(t, func(r *rig) {
		lock := r.hold("alpha", "jobs/nightly")
		got := r.wait("beta", "jobs/nightly")
		require.NoError(t, lock.Unlock(r.Context()))
		require.NoError(t, (<-got).Unlock(r.Context()))
		r.settle()
		_, timeline, _ := strings.Cut(r.get("/name?name=jobs/nightly"), "Timeline")
		require.Equal(t, 2, strings.Count(timeline, ">holds<"))
		require.Equal(t, 2, strings.Count(timeline, ">left<"))
		require.Equal(t, 1, strings.Count(timeline, ">waits<"))
	})
}

func TestNamesAreFilteredSortedAndPaged(t *testing.T) {
	run(t, func(r *rig) {
		s := r.session("alpha")
		for i := range 250 {
			r.lock(s, fmt.Sprintf("jobs/%03d", i))
		}
		r.settle()
		r.wait("beta", "jobs/123")
		term := r.etcd.Lead("scheduler", "beta:80")
		r.end(func() { _ = term.Resign(r.Context()) })
		r.settle()
		first := r.get("/names")
		require.Contains(t, first, "251 names in use")
		require.Contains(t, first, "1 to 100 of 251")
		require.NotContains(t, first, "jobs/100")
		require.Contains(t, r.get("/names?page=2"), "jobs/100")
		require.Contains(t, r.get("/names?page=99"), "Page 3 of 3")
		require.Contains(t, r.get("/names?q=JOBS/12"), "10 of 251 names")
		require.Contains(t, r.get("/names?kind=election"), "1 of 251 names")
		require.Contains(t, r.get("/names?waiting=1"), "1 of 251 names")
		require.Contains(t, r.get("/names?q=nothing"), "No name matches.")
		require.Contains(t, r.get("/names?sort=waiting"), "jobs/123")
		require.Contains(t, r.get("/names?sort=-name"), "scheduler")
		require.Equal(t, http.StatusBadRequest, r.status(http.MethodGet, "/names?sort=height"))
		require.Equal(t, http.StatusBadRequest, r.status(http.MethodGet, "/names?page=-1"))
		require.Contains(t, r.get("/session?lease="+lease(t, r)), "holds end")
	})
}

// lease is the first lease of the list of sessions.
func lease(t *testing.T, r *rig) string {
	_, id, ok := strings.Cut(r.get("/sessions"), "session?lease=")
	require.True(t, ok)
	id, _, _ = strings.Cut(id, `"`)
	return id
}

func TestADeadlockIsDrawn(t *testing.T) {
	run(t, func(r *rig) {
		a, b := r.session("alpha"), r.session("beta")
		first, second := r.lock(a, "accounts/1"), r.lock(b, "accounts/2")
		go func() { _, _ = etcdlock.NewMutex(a, "accounts/2").Lock(first.Context()) }()
		go func() { _, _ = etcdlock.NewMutex(b, "accounts/1").Lock(second.Context()) }()
		r.settle()
		page := r.get("/deadlocks")
		require.Contains(t, page, "1 deadlock")
		require.Contains(t, page, "<svg")
		require.Equal(t, 4, strings.Count(page, `class="process"`), "in a wide and in a narrow picture")
		require.Contains(t, page, "2 processes wait in a circle")
		require.NoError(t, first.Unlock(r.Context()))
		require.NoError(t, second.Unlock(r.Context()))
		r.settle()
		require.Contains(t, r.get("/deadlocks"), "No deadlock.")
	})
}

// hostile are texts that change a page, a terminal or the order of a line if they are not escaped.
var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, "a\x1b[31mb\nc\rd", "gnp.\u202etxt", "zero\u200bwidth\u2066isolate",
	"\xff\xfe\x80", `{{.Data}}`, `javascript:alert(1)`, "ключ/日本", strings.Repeat("long", 1000), "a'b&c;d%2e%2e?x=1#y",
}

func TestTextOfOthersIsHarmless(t *testing.T) {
	run(t, func(r *rig) {
		for i, text := range hostile {
			s := r.etcd.Process(fmt.Sprint("p", i)).Session(etcdlock.WithOwner(text))
			r.lock(s, "x/"+strings.Trim(strings.ReplaceAll(text, "//", "/"), "/"))
			term, err := etcdlock.NewElection(s, fmt.Sprint("leader", i)).Campaign(r.Context(), text+strings.Repeat("v", 1<<20))
			require.NoError(t, err)
			r.end(func() { _ = term.Resign(r.Context()) })
		}
		r.settle()
		pages := []string{"/names", "/sessions", "/deadlocks", "/api/names", "/api/sessions"}
		for i, text := range hostile {
			query := url.Values{"name": {"x/" + strings.Trim(strings.ReplaceAll(text, "//", "/"), "/")}}
			pages = append(pages, "/name?"+query.Encode(), "/evict?"+query.Encode(), fmt.Sprint("/name?name=leader", i))
		}
		for _, page := range pages {
			body := r.get(page)
			require.Less(t, len(body), 1<<20, page)
			if strings.HasPrefix(page, "/api/") {
				require.True(t, json.Valid([]byte(body)), page)
				continue
			}
			requireHarmless(t, page, body)
		}
	}, lockui.WithActions(lockui.Evict))
}

// requireHarmless checks that nothing of the hostile texts is part of the page itself.
func requireHarmless(t *testing.T, page, body string) {
	t.Helper()
	for _, bad := range []string{"<script>alert", "<img", "\x1b", "\u202e", "\u2066", "\xff", `href="javascript:`} {
		require.NotContains(t, body, bad, page)
	}
}

// Any client can write any keys.
func TestKeysOfOtherProgramsAreHarmless(t *testing.T) {
	run(t, func(r *rig) {
		kv := r.etcd.Process("other").Client()
		for i := range 50 {
			for _, key := range []string{fmt.Sprintf("jobs/nightly/%d", i), fmt.Sprintf("registry/a/%d", i), fmt.Sprintf("jobs/x\x00ask/%d", i), "\xff", "/", "//"} {
				_, err := kv.Put(r.Context(), key, strings.Repeat("x", 1<<18))
				require.NoError(t, err)
			}
		}
		lock := r.wait("alpha", "jobs/nightly")
		name := r.get("/name?name=jobs/nightly")
		require.Contains(t, name, "A key without a lease is in the queue.")
		require.NotContains(t, r.get("/names"), "registry")
		_, err := kv.Delete(r.Context(), "jobs/nightly/", clientv3.WithRange("jobs/nightly/a"), clientv3.WithPrefix())
		require.NoError(t, err)
		_ = lock
	})
}

func TestOnlyNamesUnderThePrefixAreShown(t *testing.T) {
	run(t, func(r *rig) {
		r.hold("alpha", "jobs/nightly")
		r.hold("alpha", "other")
		require.NotContains(t, r.get("/names"), "other")
		require.Equal(t, http.StatusNotFound, r.status(http.MethodGet, "/name?name=other"))
		require.Equal(t, http.StatusNotFound, r.status(http.MethodGet, "/evict?name=other"))
	}, lockui.WithPrefix("jobs/"), lockui.WithActions(lockui.Evict))
}
