package local

// What a caller can learn of its call.

// Path is how a hold was acquired.
type Path uint8

// The paths.
const (
	PathFree     Path = iota // the entry had nothing to wait for
	PathRetained             // the session had kept the key
	PathLocal                // in memory, from or beside another holder of the session
	PathQueued               // the entry waited in etcd
)

// Waiting tells a caller that its request has to wait. It is used for one request.
type Waiting struct {
	tell  func(ahead int)
	ahead chan int // holds one
}

// NewWaiting makes a Waiting. tell is called by the goroutine that waits for the grant, at most once.
// ahead is how many holders and waiters are ahead, as far as that is known, and at least one.
func NewWaiting(tell func(ahead int)) *Waiting {
	return &Waiting{tell: tell, ahead: make(chan int, 1)}
}

// post notes that the request has to wait. Only the first time counts. It never blocks, and may be
// called with Table.mu held.
func (w *Waiting) post(ahead int) {
	if w == nil {
		return
	}
	select {
	case w.ahead <- max(ahead, 1):
	default:
	}
}

// Report calls tell if the request has to wait, before the request has an outcome or its caller gives
// up. It blocks until one of these is known.
func (w *Waiting) Report(told, done <-chan struct{}) {
	select {
	case n := <-w.ahead:
		w.tell(n)
		return
	case <-told:
	case <-done:
	}
	select {
	case n := <-w.ahead: // it came in the same instant
		w.tell(n)
	default:
	}
}

// counts are those of Stats that only grow. They are guarded by Table.mu.
type counts struct {
	grants   [PathQueued + 1]int64 // by path
	released int64
	lost     int64
}

func (c *counts) granted(by Path) { c.grants[by]++ }
func (c *counts) release()        { c.released++ }
func (c *counts) losing(n int)    { c.lost += int64(n) }
