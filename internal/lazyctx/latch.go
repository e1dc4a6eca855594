package lazyctx

// Latch is set once. Its channel is made when a caller waits. It is guarded by a mutex of its
// owner. The zero value is not set.
type Latch struct {
	ch chan struct{} // closed once the latch is set; nil until that, or until a caller waits
}

// set is the channel of all latches that were set before a caller waited.
var set = func() chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}()

// Done returns a channel that is closed when the latch is set.
func (l *Latch) Done() <-chan struct{} {
	if l.ch == nil {
		l.ch = make(chan struct{})
	}
	return l.ch
}

// Set sets the latch, which may be set already.
func (l *Latch) Set() {
	switch {
	case l.ch == nil:
		l.ch = set
	case !l.IsSet():
		close(l.ch)
	}
}

// IsSet tells whether the latch is set.
func (l *Latch) IsSet() bool {
	select {
	case <-l.ch:
		return true
	default:
		return false
	}
}
