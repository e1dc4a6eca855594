package lockui

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

const (
	mostStreams = 1000
	pushEvery   = 500 * time.Millisecond // the minimum between two messages to a viewer
	idleEvery   = 5 * time.Second        // a page is rendered at least so often, for leases
	aliveEvery  = 15 * time.Second       // between two messages to a proxy that ends idle connections
	slowAfter   = 10 * time.Second       // a viewer that takes longer for a message is disconnected
)

// message is the live part of a page.
type message struct {
	HTML string `json:"html"`
	Now  int64  `json:"now"` // by the clock of this machine, in milliseconds
}

// stream sends the live part of a page whenever it has changed. A viewer gets the present state and not
// each change, so a slow one misses states and delays nobody. A viewer that comes back says what it has
// seen, and gets nothing if this is still the present state.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, p *page, q url.Values, seen string) {
	select {
	case h.room <- struct{}{}:
		defer func() { <-h.room }()
	default:
		h.fail(w, r, http.StatusServiceUnavailable, "Too many viewers.")
		return
	}
	if !h.begin() {
		h.fail(w, r, http.StatusServiceUnavailable, "This page is closing.")
		return
	}
	defer h.tasks.Done()
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		seen = last
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy must not collect messages
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{}) // a timeout of the request is none of the stream
	send := func(format string, args ...any) bool {
		_ = out.SetWriteDeadline(time.Now().Add(slowAfter))
		_, err := fmt.Fprintf(w, format, args...)
		return err == nil && out.Flush() == nil
	}
	if !send("retry: 2000\n\n") {
		return
	}
	for sent := time.Now(); ; {
		live := h.render(p, q, pushEvery)
		switch {
		case live.err != nil:
			return // the page shows the reason when it is loaded again
		case live.id != seen:
			data, err := json.Marshal(message{HTML: live.html, Now: time.Now().UnixMilli()})
			if err != nil || !send("id: %s\ndata: %s\n\n", live.id, data) {
				return
			}
			seen, sent = live.id, time.Now()
		case time.Since(sent) > aliveEvery:
			if !send(":\n\n") {
				return
			}
			sent = time.Now()
		}
		if !h.pause(r, live) {
			return
		}
	}
}

// pause waits until there may be something new to send. It returns false when the stream ends.
func (h *Handler) pause(r *http.Request, live *rendered) bool {
	_, mirrored := h.mirror.Version()
	_, leases := h.leases.Version()
	if h.stamps() == live.stamp {
		select {
		case <-mirrored:
		case <-leases:
		case <-time.After(idleEvery):
		case <-r.Context().Done():
		case <-h.life.Done():
		}
	}
	select {
	case <-time.After(pushEvery - min(time.Since(live.at), pushEvery)):
	case <-r.Context().Done():
	case <-h.life.Done():
	}
	return r.Context().Err() == nil && h.life.Err() == nil
}
