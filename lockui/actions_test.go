package lockui_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock"
	"github.com/etcdlock/etcdlock/lockui"
)

var all = []lockui.Option{lockui.WithActions(lockui.Ask, lockui.Transfer, lockui.Evict, lockui.Limit), lockui.WithLocalUser("ada")}

func TestAnEvictionTellsItsConsequenceAndGivesTheReason(t *testing.T) {
	run(t, func(r *rig) {
		lock := r.hold("alpha", "jobs/nightly")
		got := r.wait("beta", "jobs/nightly")
		page := r.get("/evict?name=jobs/nightly")
		require.Contains(t, page, "The next waiter, beta")
		require.Contains(t, page, "its work may still run")
		w := r.post("/evict?name=jobs/nightly", "hangs+since+3:00")
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		r.settle()
		require.ErrorIs(t, lock.Err(), etcdlock.ErrEvicted)
		require.ErrorContains(t, lock.Err(), "hangs since 3:00")
		require.ErrorContains(t, lock.Err(), "ada by etcdlock ui")
		require.NotNil(t, <-got)
		for _, part := range []string{"action=evict", "name=jobs/nightly", "user=ada", `reason="hangs since 3:00"`, "status=200"} {
			require.Contains(t, r.log.String(), part)
		}
	}, all...)
}

// Between the page of confirmation and the form, another process can become the holder.
func TestAnEvictionOfWhatHasChangedDoesNothing(t *testing.T) {
	for what, change := range map[string]func(r *rig, lock *etcdlock.Lock){
		"the holder has released":  func(r *rig, lock *etcdlock.Lock) { require.NoError(r, lock.Unlock(r.Context())) },
		"the next waiter is gone":  func(r *rig, _ *etcdlock.Lock) { r.etcd.Process("beta").Kill(); time.Sleep(30 * time.Second) },
		"the holder was rewritten": func(r *rig, lock *etcdlock.Lock) { r.rewrite("jobs/nightly") },
	} {
		t.Run(what, func(t *testing.T) {
			run(t, func(r *rig) {
				lock := r.hold("alpha", "jobs/nightly")
				r.wait("beta", "jobs/nightly")
				form := r.form("/evict?name=jobs/nightly")
				change(r, lock)
				w := r.send(form, "because")
				require.Equal(t, http.StatusConflict, w.Code, w.Body)
				require.Contains(t, w.Body.String(), "nothing was done")
				require.Contains(t, w.Body.String(), "What has changed")
				require.Contains(t, r.log.String(), "status=409")
			}, all...)
		})
	}
}

// The inbox of a name inside another one is no entry of that one, and has not left its queue.
func TestWhatLiesBesideANameInsideIsNotShownAsAChange(t *testing.T) {
	run(t, func(r *rig) {
		_, err := r.etcd.Process("other").Client().Put(r.Context(), "jobs/nightly/x\x00turn/1f", "")
		require.NoError(t, err)
		lock := r.hold("alpha", "jobs/nightly")
		form := r.form("/evict?name=jobs/nightly")
		require.NoError(t, lock.Unlock(r.Context()))
		w := r.send(form, "because")
		require.Equal(t, http.StatusConflict, w.Code, w.Body)
		require.Contains(t, w.Body.String(), "What has changed")
		require.NotContains(t, w.Body.String(), "jobs/nightly/x")
	}, all...)
}

// rewrite writes the first entry of a queue once more.
func (r *rig) rewrite(name string) {
	kv := r.etcd.Process("other").Client()
	resp, err := kv.Get(r.Context(), name+"/", rangeOf(name)...)
	require.NoError(r, err)
	_, err = kv.Put(r.Context(), string(resp.Kvs[0].Key), string(resp.Kvs[0].Value), leaseOf(resp.Kvs[0])...)
	require.NoError(r, err)
}

func TestAnEvictionThatFreesTheLockIsBoundToAnEmptyQueue(t *testing.T) {
	run(t, func(r *rig) {
		lock := r.hold("alpha", "jobs/nightly")
		form := r.form("/evict?name=jobs/nightly")
		require.Contains(t, r.get("/evict?name=jobs/nightly"), "the lock will be free")
		r.wait("beta", "jobs/nightly")
		require.Equal(t, http.StatusConflict, r.send(form, "because").Code)
		require.NoError(t, lock.Err())
	}, all...)
}

func TestAWaiterIsEvicted(t *testing.T) {
	run(t, func(r *rig) {
		lock := r.hold("alpha", "jobs/nightly")
		r.wait("beta", "jobs/nightly")
		_, rest, _ := strings.Cut(r.get("/name?name=jobs/nightly"), ">waits<")
		_, href, ok := strings.Cut(rest, `href="evict?`)
		require.True(t, ok)
		href, _, _ = strings.Cut(href, `"`)
		page := "/evict?" + strings.ReplaceAll(href, "&amp;", "&")
		require.Contains(t, r.get(page), "loses its place")
		require.Equal(t, http.StatusOK, r.post(page, "because").Code)
		require.NoError(t, lock.Err())
	}, all...)
}

func TestAnActionNeedsAReasonAndAPlan(t *testing.T) {
	run(t, func(r *rig) {
		lock := r.hold("alpha", "jobs/nightly")
		form := r.form("/evict?name=jobs/nightly")
		require.Equal(t, http.StatusBadRequest, r.send(form, "").Code)
		require.Equal(t, http.StatusBadRequest, r.send(form, strings.Repeat("x", 1001)).Code)
		require.Equal(t, http.StatusBadRequest, r.send(form, strings.Repeat("x", 100_000)).Code)
		for _, fact := range []string{"create", "mod", "shown"} {
			require.Equal(t, http.StatusBadRequest, r.send(strings.ReplaceAll(form, fact+"=", "no="), "because").Code, fact)
		}
		require.Equal(t, http.StatusBadRequest, r.send(strings.ReplaceAll(form, "key=jobs%2Fnightly", "key=other"), "because").Code)
		require.Equal(t, http.StatusMethodNotAllowed, r.status(http.MethodPut, "/evict"))
		require.NoError(t, lock.Err())
	}, all...)
}

func TestAReadOnlyPageRefusesActions(t *testing.T) {
	run(t, func(r *rig) {
		lock := r.hold("alpha", "jobs/nightly")
		require.NotContains(t, r.get("/name?name=jobs/nightly"), "evict?")
		for _, action := range []string{"evict", "ask", "limit", "transfer"} {
			require.Equal(t, http.StatusForbidden, r.status(http.MethodGet, "/"+action+"?name=jobs/nightly"))
			require.Equal(t, http.StatusForbidden, r.status(http.MethodPost, "/"+action+"?name=jobs/nightly"))
		}
		require.NoError(t, lock.Err())
		require.Contains(t, r.log.String(), "request refused")
	})
}

func TestAHolderIsAsked(t *testing.T) {
	run(t, func(r *rig) {
		lock := r.hold("alpha", "jobs/nightly")
		stale := r.form("/ask?name=jobs/nightly")
		w := r.post("/ask?name=jobs/nightly", "deploying")
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		asked := <-lock.Asked()
		require.Equal(t, "deploying", asked.Reason)
		require.Equal(t, "ada by etcdlock ui", asked.Owner)
		r.settle()
		require.Contains(t, r.get("/name?name=jobs/nightly"), "Asked to release")
		require.NoError(t, lock.Unlock(r.Context()))
		r.settle()
		require.NotContains(t, r.get("/name?name=jobs/nightly"), "Asked to release")
		r.hold("beta", "jobs/nightly")
		require.Equal(t, http.StatusConflict, r.send(stale, "deploying").Code, "the holder is another one")
		require.Equal(t, http.StatusNotFound, r.status(http.MethodGet, "/ask?name=free"))
	}, all...)
}

func TestTheLimitOfASemaphoreIsSet(t *testing.T) {
	run(t, func(r *rig) {
		s := etcdlock.NewSemaphore(r.session("alpha"), "pool", 5)
		permit, err := s.Acquire(r.Context(), 3)
		require.NoError(t, err)
		r.end(func() { _ = permit.Release(r.Context()) })
		r.settle()
		require.Contains(t, r.get("/names"), "3 of 5")
		require.Contains(t, r.get("/limit?name=pool"), `value="5"`)
		require.Contains(t, r.get("/limit?name=pool&to=2"), "from 5 to 2")
		stale := r.form("/limit?name=pool&to=9")
		require.Equal(t, http.StatusOK, r.post("/limit?name=pool&to=2", "less").Code)
		limit, err := s.Limit(r.Context())
		require.NoError(t, err)
		require.Equal(t, 2, limit)
		r.settle()
		require.Contains(t, r.get("/names"), "3 of 2")
		require.Equal(t, http.StatusConflict, r.send(stale, "more").Code)
		for _, bad := range []string{"0", "-1", "many", "99999999999"} {
			require.Equal(t, http.StatusBadRequest, r.status(http.MethodGet, fmt.Sprintf("/limit?name=pool&to=%s", bad)))
		}
		require.Equal(t, http.StatusNotFound, r.status(http.MethodGet, "/limit?name=other"))
	}, all...)
}

func TestALeaderHandsOverToACandidate(t *testing.T) {
	run(t, func(r *rig) {
		r.candidate("alpha", "scheduler", etcdlock.WithResignOnRequest())
		r.candidate("beta", "scheduler", etcdlock.WithResignOnRequest())
		r.candidate("gamma", "scheduler", etcdlock.WithResignOnRequest())
		page := r.get("/name?name=scheduler")
		require.Contains(t, page, "Led by")
		require.Equal(t, 2, strings.Count(page, `href="transfer?`), "each candidate that waits")
		_, href, _ := strings.Cut(page, `id="`+rowOf(page, "gamma")+`-t" href="`)
		href, _, _ = strings.Cut(href, `"`)
		href = "/" + strings.ReplaceAll(href, "&amp;", "&")
		require.Contains(t, r.get(href), "is asked to hand over to gamma")
		stale := r.form(href)
		w := r.post(href, "new+kernel")
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		require.Contains(t, w.Body.String(), "The leader has handed over.")
		r.settle()
		require.Contains(t, r.get("/names"), "gamma")
		require.Equal(t, http.StatusConflict, r.send(stale, "again").Code)
		require.Equal(t, http.StatusNotFound, r.status(http.MethodGet, "/transfer?name=other"))
	}, all...)
}

func TestALeaderThatHonoursNoRequestsIsNotAsked(t *testing.T) {
	run(t, func(r *rig) {
		r.candidate("alpha", "scheduler")
		r.candidate("beta", "scheduler")
		w := r.post("/transfer?name=scheduler", "new+kernel")
		require.Equal(t, http.StatusConflict, w.Code)
		require.Contains(t, w.Body.String(), "does not honour requests")
	}, all...)
}

// rowOf is the ID of the row of a candidate.
func rowOf(page, candidate string) string {
	before, _, _ := strings.Cut(page, `<bdi>`+candidate+`</bdi></span></a>`)
	_, id, _ := strings.Cut(before[strings.LastIndex(before, "<tr"):], `id="`)
	id, _, _ = strings.Cut(id, `"`)
	return id
}

// Names and keys are bytes, and a form has only text.
func TestAHolderOfANameThatIsNoTextIsEvicted(t *testing.T) {
	for _, name := range []string{"x/\xff\xfe", "x/a\nb\r\nc", `x/"><b>&amp;`} {
		run(t, func(r *rig) {
			lock := r.hold("alpha", name)
			w := r.post("/evict?name="+escape(name), "because")
			require.Equal(t, http.StatusOK, w.Code, w.Body)
			r.settle()
			require.ErrorIs(t, lock.Err(), etcdlock.ErrEvicted)
		}, all...)
	}
}
