package browser

import (
	"context"
	_ "embed" // of the script of accessible
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

//go:embed accessibility.js
var accessibility string
