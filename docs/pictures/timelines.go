package main

import (
	"fmt"
	"math"
)

// drawLock shows two processes that want one name: what each writes to etcd, and when it holds.
func drawLock() *canvas {
	c := newCanvas(880, 372, "The life of a lock",
		"Process A writes its key under the name, and holds because no older key exists. Process B writes "+
			"its key, finds the older one, and waits with a watch. When A unlocks, its key is deleted, the watch reports it, and B holds. "+
			"The token of A is revision 10, at which its key was created. The token of B is revision 12, at which the key of A was deleted.")
	const left, right, bar = 150.0, 850.0, 26.0
	lanes := map[string]float64{"A": 66, "keyA": 132, "keyB": 162, "B": 226}
	c.write("ink", "start", 20, lanes["A"]+18, "process A")
	c.write("ink", "start", 20, lanes["keyA"]+18, "etcd, keys under")
	c.write("ink", "start", 20, lanes["keyB"]+12, "orders/42/")
	c.write("ink", "start", 20, lanes["B"]+18, "process B")
	for _, y := range []float64{112, 206} {
		c.line("rule", 20, y, right, y)
	}

	mid := lanes["keyA"] + bar/2
	midB := lanes["keyB"] + bar/2
	c.arrow("axis", 170, lanes["A"]+bar, 200, mid)
	c.rect("ours", 200, lanes["keyA"], 380, bar)
	c.write("onbar", "start", 210, lanes["keyA"]+18, "orders/42/1f, create revision 10")
	c.arrow("axis", 200, mid-bar/2, 230, lanes["A"]+bar)
	c.rect("ours", 230, lanes["A"], 320, bar)
	c.write("onbar", "middle", 390, lanes["A"]+18, "A holds, token 10")

	c.arrow("axis", 300, lanes["B"], 330, midB)
	c.rect("other", 330, lanes["keyB"], right-330, bar)
	c.write("onbar", "start", 340, lanes["keyB"]+18, "orders/42/2a, create revision 11")
	c.arrow("axis", 335, midB+bar/2, 360, lanes["B"])
	c.rect("wait", 360, lanes["B"], 250, bar)
	c.write("ink", "middle", 485, lanes["B"]+18, "B waits, and watches")

	c.arrow("axis", 550, lanes["A"]+bar, 580, mid-bar/2)
	c.write("small ink", "start", 588, lanes["keyA"]+18, "deleted, revision 12")
	c.arrow("axis", 580, mid+bar/2, 610, lanes["B"])
	c.rect("other", 610, lanes["B"], right-610, bar)
	c.write("onbar", "middle", (610+right)/2, lanes["B"]+18, "B holds, token 12")

	step := func(n int, x, y float64) {
		c.dot("dim", x, y, 9)
		c.write("onbar small", "middle", x, y+4, fmt.Sprint(n))
	}
	step(1, 160, lanes["A"]+bar/2)
	step(2, 290, lanes["B"]+bar/2)
	step(3, 570, lanes["A"]+bar/2)
	step(4, 597, lanes["B"]+bar/2)
	for i, text := range []string{
		"Lock writes a key in one transaction. No older key exists, so A holds. Its token is the revision of the key.",
		"Lock of B writes a key and finds an older one. B waits behind it, in order of create revisions.",
		"Unlock deletes the key, guarded by its create revision. It returns when etcd has confirmed the deletion.",
		"The watch reports the deletion. B sees that no older key is left, and holds. Its token is the revision of the deletion.",
	} {
		y := 282 + float64(i)*22
		step(i+1, 32, y-4)
		c.write("ink", "start", 50, y, text)
	}
	return c
}

// The lease of the picture, in seconds: the defaults of WithTTL and WithMargin. internal/lease renews
// after a third of the TTL, and every sixth of it while an answer is overdue.
const (
	ttl    = 10.0
	margin = 1.0
	every  = ttl / 3
	again  = ttl / 6

	reconnecting = 0.5 // until a client has reconnected, at most
)

// drawLease shows a process that is cut off from etcd just before a renewal, which is the worst moment.
func drawLease() *canvas {
	c := newCanvas(880, 400, "The end of a lease: TTL 10 s, margin 1 s",
		"The last answered renewal was sent at 0 s. The network fails before the next renewal at 3.3 s. The hold ends at 9 s, "+
			"which is the time of sending plus the TTL less the margin. etcd counts the TTL from the arrival of the renewal, "+
			"so it keeps the key until after 10 s. Only then can another process hold.")
	const left, scale = 150.0, 56.0
	at := func(seconds float64) float64 { return left + seconds*scale }
	const process, network, etcd, next, bar = 110.0, 162.0, 214.0, 266.0, 26.0
	const deadline, arrival = ttl - margin, 0.25 // the way to etcd, drawn longer than it is
	const expiry, end = ttl + arrival, 12.4

	c.rect("away", at(every-0.15), 96, at(end)-at(every-0.15), 212)
	c.write("small markink", "start", at(every)+4, 108, "the process cannot reach etcd")
	for _, lane := range []struct {
		y    float64
		name string
	}{{process, "process"}, {network, "renewals"}, {etcd, "key in etcd"}, {next, "next process"}} {
		c.write("ink", "start", 20, lane.y+18, lane.name)
	}
	c.rect("ours", at(0)-20, process+6, at(deadline)-at(0)+20, bar-6)
	c.write("onbar", "middle", at(deadline/2), process+21, "lock is held: Err is nil, the context is open")
	c.rect("wait", at(deadline), process+6, at(expiry)-at(deadline), bar-6)
	c.write("small ink", "start", at(expiry)+6, process+21, "work stops in the margin")

	c.arrow("axis", at(0), network, at(arrival), etcd)
	c.dot("ours", at(0), network+4, 4)
	c.write("small ink", "start", at(0)+8, network+8, "sent at 0 s, answered")
	for t := every; t < deadline; t += again {
		c.dot("markink", at(t), network+4, 4)
	}
	c.write("small markink", "start", at(every)+4, network+22, "sent again every 1.7 s, unanswered")

	c.rect("ours", at(0)-20, etcd, at(expiry)-at(0)+20, bar)
	c.write("onbar", "middle", at(deadline/2), etcd+18, "exists: etcd counts the TTL from the arrival of the renewal")
	c.rect("wait", at(0)-20, next, at(expiry+0.3)-at(0)+20, bar)
	c.write("ink", "middle", at(deadline/2), next+18, "waits")
	c.rect("other", at(expiry+0.3), next, at(end)-at(expiry+0.3), bar)
	c.write("onbar", "middle", (at(expiry+0.3)+at(end))/2, next+18, "holds")

	c.line("mark", at(deadline), 62, at(deadline), 308)
	c.write("markink", "end", at(deadline)-6, 58, "deadline = sent + TTL - margin")
	c.line("axis dash", at(0), 90, at(0), 308)
	c.span(at(0), at(ttl), 90, fmt.Sprintf("TTL, %.0f s", ttl))
	c.line("axis dash", at(ttl), 90, at(ttl), process+6)
	for t := 0.0; t <= 12; t += 2 {
		c.line("axis", at(t), 308, at(t), 313)
		c.write("small dim", "middle", at(t), 326, fmt.Sprintf("%.0f s", t))
	}
	c.line("axis", at(0)-20, 308, at(end), 308)
	survived := deadline - every - reconnecting
	c.span(at(every), at(every+survived), 356, fmt.Sprintf("outage survived: 2/3 TTL - margin - %.1f s = %.1f s", reconnecting, math.Floor(10*survived)/10))
	c.span(at(deadline), at(ttl), 356, "margin")
	c.write("small dim", "start", 20, 386, "At the deadline a local timer cancels the context, even if etcd is unreachable. "+
		"The next process can hold only when etcd has deleted the key.")
	return c
}
