package lazyctx

// Latch is set once. Its channel is made when a caller waits. It is guarded by a mutex of its
// owner. The zero value is not set.
type Latch struct {
	set bool
	ch  chan struct{}
}

// Done returns a channel that is closed when the latch is set.
func (l *Latch) Done() <-chan struct{} {
	if l.ch == nil {
		l.ch = make(chan struct{})
		if l.set {
			close(l.ch)
		}
	}
	return l.ch
}

// Set sets the latch, which may be set already.
func (l *Latch) Set() {
	if !l.set && l.ch != nil {
		close(l.ch)
	}
	l.set = true
}

// IsSet tells whether the latch is set.
func (l *Latch) IsSet() bool { return l.set }
