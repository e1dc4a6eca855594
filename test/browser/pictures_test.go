package browser

import (
	"bytes"
	"cmp"
	"image"
	"image/color"
	"image/png"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/etcdlock/etcdlock/internal/wire"
)

// shop is a world to look at: a batch, elections, a pool, and two transfers that wait for each other.
func shop(t *testing.T, prefix string) {
	t.Helper()
	nightly, spare := newPeer(t, "batch-1", "worker-a", 4711), newPeer(t, "batch-2", "worker-b", 4188)
	third, fourth := newPeer(t, "batch-3", "worker-c", 902), newPeer(t, "billing-7", "web-3", 31)
	nightly.enter(prefix+"jobs/nightly-report", 42*time.Minute)
	spare.enter(prefix+"jobs/nightly-report", 11*time.Minute)
	third.enter(prefix+"jobs/nightly-report", 95*time.Second)
	spare.enter(prefix+"jobs/reindex", 3*time.Hour)
	third.enter(prefix+"jobs/vacuum/orders", 12*time.Second)
	nightly.enter(prefix+"jobs/vacuum/users", 51*time.Hour)
	for i, p := range []*peer{fourth, nightly, third} {
		p.campaign(prefix+"scheduler", []string{"web-3:8080", "web-1:8080", "web-2:8080"}[i], []int{0, 5, 0}[i])
	}
	pool := func(n int) func(*wire.Holder) {
		return func(h *wire.Holder) { h.Mode, h.Permits, h.Limit = wire.Counted, n, 5 }
	}
	nightly.enter(prefix+"pool/smtp", 20*time.Second, pool(2))
	spare.enter(prefix+"pool/smtp", 9*time.Second, pool(3))
	fourth.enter(prefix+"pool/smtp", 2*time.Second, pool(1))
	shared := func(h *wire.Holder) { h.Mode = wire.Shared }
	fourth.enter(prefix+"config", 26*time.Hour, shared)
	third.enter(prefix+"config", 25*time.Hour, shared)
	a, b := newPeer(t, "transfer-A", "bank-1", 7701), newPeer(t, "transfer-B", "bank-2", 7702)
	one, two := a.enter(prefix+"accounts/1017", 14*time.Second), b.enter(prefix+"accounts/2044", 14*time.Second)
	a.enter(prefix+"accounts/2044", 13*time.Second, func(h *wire.Holder) { h.Holds = []string{one} })
	b.enter(prefix+"accounts/1017", 13*time.Second, func(h *wire.Holder) { h.Holds = []string{two} })
}

// The pictures of docs/ui.md.
func TestPictures(t *testing.T) {
	prefix := "shop/"
	shop(t, prefix)
	address, _ := serveUI(t, "--allow", "ask,transfer,evict,limit", prefix)
	b := open(t, address)
	var session string
	views := []struct{ name, path, shows string }{
		{"names", "names", "of 10 s"},
		{"name", "name?name=" + url.QueryEscape(prefix+"jobs/nightly-report"), "of 10 s"},
		{"sessions", "sessions", "of 10 s"},
		{"session", "", "What dies with this process"},
		{"deadlocks", "deadlocks", "2 processes wait in a circle"},
		{"doctor", "doctor", "Examined"},
		{"evict", "evict?name=" + url.QueryEscape(prefix+"jobs/nightly-report"), "The next waiter"},
	}
	third := newPeer(t, "batch-4", "worker-d", 77)
	key := third.enter(prefix+"jobs/nightly-report", time.Second)
	b.goTo("name?name=" + url.QueryEscape(prefix+"jobs/nightly-report"))
	b.shows("batch-4")
	third.leave(key)
	b.goTo("sessions")
	b.shows("batch-1")
	session = evaluate[string](b, `[...document.querySelectorAll("tbody th a")].find((a) => a.textContent === "batch-1").getAttribute("href")`)
	for _, v := range views {
		if v.path == "" {
			v.path = session
		}
		for _, look := range []struct {
			name, scheme string
			width        int64
		}{{"", "light", 1280}, {"-dark", "dark", 1280}, {"-320", "light", 320}, {"-320-dark", "dark", 320}} {
			b.size(look.width, 760)
			b.scheme(look.scheme)
			b.goTo(v.path)
			b.shows(v.shows)
			require.Eventually(t, func() bool { return !evaluate[bool](b, `document.body.innerText.includes("not read yet")`) }, 20*time.Second, 100*time.Millisecond)
			b.accessible()
			if look.name != "-320-dark" && v.name != "session" && (v.name != "evict" || look.name == "") {
				b.picture(v.name + look.name)
			}
		}
	}
}

// writePicture writes a picture for docs/ui.md, with its 256 most frequent colours, which makes it a
// third of the size.
func writePicture(t *testing.T, name string, data []byte) {
	t.Helper()
	full, err := png.Decode(bytes.NewReader(data))
	require.NoError(t, err)
	box := full.Bounds()
	count := make(map[color.RGBA]int)
	for y := range box.Dy() {
		for x := range box.Dx() {
			count[color.RGBAModel.Convert(full.At(x, y)).(color.RGBA)]++ //nolint:forcetypeassert // by the model
		}
	}
	colours := make([]color.RGBA, 0, len(count))
	for c := range count {
		colours = append(colours, c)
	}
	slices.SortFunc(colours, func(a, b color.RGBA) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a.R, b.R), cmp.Compare(a.G, b.G), cmp.Compare(a.B, b.B))
	})
	palette := color.Palette{}
	for _, c := range colours[:min(len(colours), 256)] {
		palette = append(palette, c)
	}
	index := make(map[color.RGBA]uint8, len(count))
	for c := range count {
		index[c] = uint8(palette.Index(c)) //nolint:gosec // below 256
	}
	small := image.NewPaletted(box, palette)
	for y := range box.Dy() {
		for x := range box.Dx() {
			small.SetColorIndex(x, y, index[color.RGBAModel.Convert(full.At(x, y)).(color.RGBA)]) //nolint:forcetypeassert // by the model
		}
	}
	var out bytes.Buffer
	require.NoError(t, (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, small))
	require.NoError(t, os.WriteFile(filepath.Join("..", "..", "docs", "pictures", name), out.Bytes(), 0o600))
}
