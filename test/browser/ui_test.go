package browser

import (
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/wire"
)

func TestAPageChangesWithoutALoad(t *testing.T) {
	prefix := prefixOf(t)
	address, _ := serveUI(t, prefix)
	b := open(t, address)
	b.goTo("names")
	b.shows("No lock, election or semaphore is in use.")
	evaluate[bool](b, `window.loadedOnce = true`)
	alpha := newPeer(t, "alpha", "host-a", 17)
	key := alpha.enter(prefix+"nightly", time.Minute)
	b.shows("nightly")
	b.shows("host-a")
	b.shows("of 10 s")
	b.shows(" s ago")
	newPeer(t, "beta", "host-b", 18).enter(prefix+"nightly", 0)
	require.Eventually(t, func() bool { return evaluate[string](b, `document.querySelector("td.number").textContent`) == "1" }, 10*time.Second, 50*time.Millisecond)
	b.do(chromedp.Click(`tbody a`))
	b.shows("Timeline")
	b.shows("1 entry waits.")
	alpha.leave(key)
	b.shows("No entry waits.")
	b.shows("left")
	b.do(chromedp.NavigateBack())
	b.shows("beta")
}

// The keyboard and a screen reader keep their place while the page changes.
func TestFocusAndOpenDetailsSurviveChanges(t *testing.T) {
	prefix := prefixOf(t)
	address, _ := serveUI(t, prefix)
	b := open(t, address)
	alpha := newPeer(t, "alpha", "host-a", 17)
	alpha.enter(prefix+"nightly", time.Minute)
	b.goTo("name?name=" + url.QueryEscape(prefix+"nightly"))
	b.shows("No entry waits.")
	b.do(chromedp.Click(`summary`))
	evaluate[bool](b, `window.same = document.querySelector("details"), window.same.open && document.querySelector("th a").focus() === undefined`)
	for i := range 3 {
		newPeer(t, fmt.Sprint("waiter", i), "host-b", i+1).enter(prefix+"nightly", 0)
		b.shows(fmt.Sprintf("%d ", i+1))
		b.shows(fmt.Sprint("waiter", i))
	}
	require.True(t, evaluate[bool](b, `window.same === document.querySelector("details") && window.same.open`))
	require.True(t, evaluate[bool](b, `document.activeElement === document.querySelector("th a")`))
	b.goTo("names")
	b.do(chromedp.KeyEvent("/"))
	require.Equal(t, "q", evaluate[string](b, `document.activeElement.name`))
	b.do(chromedp.KeyEvent("nothing" + kb.Enter))
	b.shows("No name matches.")
	b.do(chromedp.KeyEvent(kb.Tab))
	require.Contains(t, evaluate[string](b, `document.activeElement.textContent`), "Skip")
}

func TestAnActionAndARefusal(t *testing.T) {
	prefix := prefixOf(t)
	address, _ := serveUI(t, "--allow", "evict,ask", prefix)
	b := open(t, address)
	alpha, beta := newPeer(t, "alpha", "host-a", 17), newPeer(t, "beta", "host-b", 18)
	alpha.enter(prefix+"nightly", time.Hour)
	key := beta.enter(prefix+"nightly", time.Minute)
	b.goTo("name?name=" + url.QueryEscape(prefix+"nightly"))
	b.shows("Evict")
	b.do(chromedp.Click(`td a.danger`))
	b.shows("The next waiter, beta (host-b, pid 18), can then hold at once.")
	b.accessible()
	b.do(chromedp.Click(`form.confirm button`)) // without a reason the browser does not send the form
	require.Contains(t, evaluate[string](b, `location.href`), "evict?")
	beta.leave(key)
	gamma := newPeer(t, "gamma", "host-c", 19)
	gamma.enter(prefix+"nightly", 0)
	b.do(chromedp.SendKeys(`input[name=reason]`, "hangs since 3:00"), chromedp.Click(`form.confirm button`))
	b.shows("nothing was done")
	b.shows("gamma")
	b.accessible()
	b.do(chromedp.Click(`.buttons a`))
	b.shows("The next waiter, gamma (host-c, pid 19), can then hold at once.")
	b.do(chromedp.SendKeys(`input[name=reason]`, "hangs since 3:00"+kb.Enter))
	b.shows("The entry is evicted.")
	b.do(chromedp.Click(`main a.button`))
	b.shows("Held by gamma")

	readonly, _ := serveUI(t, prefix)
	r := open(t, readonly)
	r.goTo("evict?name=" + url.QueryEscape(prefix+"nightly"))
	r.shows("This page does not permit the action evict.")
}

func TestHostileNamesAndValuesAreText(t *testing.T) {
	prefix := prefixOf(t)
	address, _ := serveUI(t, "--allow", "evict", prefix)
	b := open(t, address)
	hostile := []string{
		`<script>alert(1)<-script>`, `"><img src=x onerror=alert(1)>`, "a\x1b[31mb\nc\rd", "gnp.\u202etxt", "zero\u200bwidth", "\xff\xfe\x80",
		"عربي", "javascript:alert(1)", strings.Repeat("long", 300), "' onmouseover='alert(1)", "</title></bdi></table>",
	}
	p := newPeer(t, `<b onclick="alert(1)">bold</b>`, `"><svg onload=alert(1)>`, 17)
	for i, text := range hostile {
		p.enter(prefix+text, 0)
		p.put(wire.Key(prefix+fmt.Sprint("leader", i), p.lease), text+strings.Repeat("v", 1<<20))
	}
	pages := []string{"names", "sessions", "session?lease=" + wire.Hex(p.lease), "deadlocks"}
	for i, text := range hostile {
		pages = append(pages, "name?name="+url.QueryEscape(prefix+text), "evict?name="+url.QueryEscape(prefix+text), "name?name="+url.QueryEscape(prefix+fmt.Sprint("leader", i)))
	}
	for _, width := range []int64{1280, 320} {
		b.size(width, 800)
		for _, page := range pages {
			b.goTo(page)
			require.Equal(t, 1, evaluate[int](b, `document.querySelectorAll("script").length`), page)
			require.Zero(t, evaluate[int](b, `document.querySelectorAll("img, b, svg:not([aria-hidden]):not([role=img]), [onclick], [onload], [onerror], [onmouseover]").length`), page)
			b.accessible()
		}
	}
	b.goTo("evict?name=" + url.QueryEscape(prefix+"\xff\xfe\x80"))
	b.do(chromedp.SendKeys(`input[name=reason]`, "because"+kb.Enter))
	b.shows("The entry is evicted.")
}

func TestTwoThousandNames(t *testing.T) {
	prefix := prefixOf(t)
	address, _ := serveUI(t, prefix)
	b := open(t, address)
	p := newPeer(t, "alpha", "host-a", 17)
	for i := range 2000 {
		p.put(wire.Key(fmt.Sprintf("%sjob-%04d", prefix, i), p.lease), wire.Holder{Owner: fmt.Sprint("worker-", i%40), Host: "host-a", PID: 1, Since: time.Now().UTC()}.Encode())
	}
	began := time.Now()
	b.goTo("names")
	b.shows("2000 names in use")
	t.Logf("2,000 names are shown after %v", time.Since(began).Round(time.Millisecond))
	require.Equal(t, 100, evaluate[int](b, `document.querySelectorAll("tbody tr").length`))
	b.do(chromedp.Click(`a[rel=next]`))
	b.shows("job-0100")
	b.do(chromedp.SetValue(`input[name=q]`, "job-1999"), chromedp.Click(`form.filter button`))
	b.shows("1 of 2000 names")
	b.accessible()
	b.goTo("session?lease=" + wire.Hex(p.lease))
	b.shows("2000 holds end")
}

func TestAQueueOfFiveHundred(t *testing.T) {
	prefix := prefixOf(t)
	address, _ := serveUI(t, prefix)
	b := open(t, address)
	for i := range 500 {
		newPeer(t, fmt.Sprintf("worker-%03d", i), "host-a", i+1).enter(prefix+"nightly", time.Duration(500-i)*time.Second)
	}
	b.goTo("name?name=" + url.QueryEscape(prefix+"nightly"))
	b.shows("499 entries wait.")
	b.shows("1 to 100 of 500")
	b.goTo("name?name=" + url.QueryEscape(prefix+"nightly") + "&page=5")
	b.shows("worker-499")
	newPeer(t, "the-latest", "host-b", 1).enter(prefix+"nightly", 0)
	b.shows("500 entries wait.")
}

func TestEtcdIsAwayAndComesBack(t *testing.T) {
	prefix := prefixOf(t)
	address, cmd := serveUI(t, prefix)
	b := open(t, address)
	newPeer(t, "alpha", "host-a", 17).enter(prefix+"nightly", 0)
	b.goTo("names")
	b.shows("alpha")
	require.NoError(t, world.etcd.Process.Signal(syscall.SIGSTOP))
	defer func() { _ = world.etcd.Process.Signal(syscall.SIGCONT) }()
	b.shows("etcd does not answer since")
	b.shows("What you see is from")
	b.shows("alpha")
	b.accessible()
	b.picture("away")
	require.NoError(t, world.etcd.Process.Signal(syscall.SIGCONT))
	b.hides("etcd does not answer")
	newPeer(t, "beta", "host-b", 18).enter(prefix+"weekly", 0)
	b.shows("weekly")

	b.lost = true
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	b.shows("This page lost its server")
}
