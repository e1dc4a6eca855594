package browser

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// tab is a tab of the browser. The test fails if the page has an error, or violates its policy.
type tab struct {
	*testing.T
	ctx     context.Context
	address string

	mu       sync.Mutex
	problems []string
	lost     bool // true: failed loads are expected, because the server is away
}

// open opens a tab on a page of the ui command.
func open(t *testing.T, address string) *tab {
	ctx, cancel := chromedp.NewContext(world.browser)
	b := &tab{T: t, ctx: ctx, address: address}
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Listen(ctx, func(ev any) {
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			b.problem("exception: " + ev.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			if ev.Entry.Level == log.EntryLevelError {
				b.problem(ev.Entry.Text)
			}
		case *page.EventJavascriptDialogOpening:
			b.problem("dialog: " + ev.Message)
		}
	}))
	_, err := chromedp.Call(ctx, log.Enable, cdp.Empty{})
	require.NoError(t, err)
	b.size(1280, 800)
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		require.Empty(t, b.problems)
	})
	return b
}

func (b *tab) problem(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	refused := strings.Contains(text, "status of 4") // a refusal that the test asked for
	if !refused && (!b.lost || !strings.Contains(text, "Failed to load resource")) {
		b.problems = append(b.problems, text)
	}
}

func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.Fatalf("%v\n%s", err, b.text())
	}
}

// text is what the page shows.
func (b *tab) text() string {
	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
	defer cancel()
	text, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText`))
	return text
}

func (b *tab) goTo(path string) {
	b.Helper()
	b.do(chromedp.Navigate(b.address + path))
}

// size sets the size of the window.
func (b *tab) size(width, height int64) {
	_, err := chromedp.Call(b.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 500,
	})
	require.NoError(b, err)
}

// scheme sets the colours that the user prefers.
func (b *tab) scheme(name string) {
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
	})
	require.NoError(b, err)
}

// evaluate returns the value of a script.
func evaluate[V any](b *tab, script string) V {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[V](script))
	require.NoError(b, err, script)
	return v
}

// shows waits until the page has a text.
func (b *tab) shows(text string) {
	b.Helper()
	require.Eventually(b, func() bool { return strings.Contains(b.text(), text) }, 30*time.Second, 50*time.Millisecond, "%q is missing in:\n%s", text, b.text())
}

// hides waits until the page no longer has a text.
func (b *tab) hides(text string) {
	b.Helper()
	require.Eventually(b, func() bool { return !strings.Contains(b.text(), text) }, 30*time.Second, 50*time.Millisecond, "%q is still there", text)
}

// picture writes a picture of the whole page for docs/ui.md.
func (b *tab) picture(name string) {
	b.Helper()
	evaluate[bool](b, `(window.scrollTo(0, 0), true)`)
	time.Sleep(300 * time.Millisecond)
	whole := true
	shot, err := chromedp.Call(b.ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{CaptureBeyondViewport: &whole, Clip: &page.Viewport{
		Width: evaluate[float64](b, `innerWidth`), Height: min(evaluate[float64](b, `document.documentElement.scrollHeight`), 1600), Scale: 1,
	}})
	require.NoError(b, err)
	writePicture(b.T, fmt.Sprintf("ui-%s.png", name), shot.Data)
}

// accessible checks what a script can find of accessibility: names of fields and links, headings,
// contrast, and that nothing is cut off at the width of the window.
func (b *tab) accessible() {
	b.Helper()
	require.Empty(b, evaluate[[]string](b, accessibility))
}

const accessibility = `(() => {
  const found = [];
  const visible = (n) => n.checkVisibility() && n.getClientRects().length > 0;
  if (!document.documentElement.lang) found.push("no language");
  if (document.querySelectorAll("h1").length !== 1) found.push("not one h1");
  if (document.documentElement.scrollWidth > innerWidth) found.push("wider than the window: " + document.documentElement.scrollWidth + " > " + innerWidth);
  for (const n of document.querySelectorAll("input, select, textarea")) {
    if (n.type !== "hidden" && !n.labels.length && !n.ariaLabel) found.push("no label: " + n.outerHTML);
  }
  for (const n of document.querySelectorAll("a, button, summary")) {
    if (visible(n) && !n.textContent.trim() && !n.ariaLabel) found.push("no name: " + n.outerHTML);
  }
  for (const n of document.querySelectorAll("table")) {
    if (!n.ariaLabel && !n.getAttribute("aria-labelledby")) found.push("a table without a name");
    for (const h of n.querySelectorAll("th")) if (!h.scope) found.push("no scope: " + h.outerHTML);
  }
  const ids = [...document.querySelectorAll("[id]")].map((n) => n.id);
  for (const id of new Set(ids)) if (ids.filter((i) => i === id).length > 1) found.push("id twice: " + id);
  for (const n of document.querySelectorAll("[aria-labelledby], [aria-describedby]")) {
    for (const a of ["aria-labelledby", "aria-describedby"]) {
      const id = n.getAttribute(a);
      if (id && !document.getElementById(id)) found.push(a + " of nothing: " + id);
    }
  }
  const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const rgba = (text) => { const m = text.match(/[\d.]+/g).map(Number); if (text.includes("(srgb")) for (let i = 0; i < 3; i++) m[i] *= 255; return m; };
  const behind = (n) => {
    for (; n; n = n.parentElement) {
      const c = rgba(getComputedStyle(n).backgroundColor);
      if (c.length < 4 || c[3] > 0.99) return c;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const seen = new Set();
  while (walker.nextNode()) {
    const n = walker.currentNode.parentElement;
    if (!walker.currentNode.nodeValue.trim() || seen.has(n) || !visible(n) || n.closest("svg, .hidden, .skip, option")) continue;
    seen.add(n);
    const a = light(rgba(getComputedStyle(n).getPropertyValue("col" + "or"))), b = light(behind(n));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push("contrast " + ratio.toFixed(2) + ": " + n.outerHTML.slice(0, 120));
  }
  return found.slice(0, 10);
})()`
