package etcdlock

// event is something that happens once. What somebody waits with is made when somebody does,
// as mostly nobody has to. It is guarded by a lock of whoever has it.
type event struct {
	happened bool
	ch       chan struct{}
}

// wait returns a channel that is closed when it has happened.
func (e *event) wait() <-chan struct{} {
	if e.ch == nil {
		e.ch = make(chan struct{})
		if e.happened {
			close(e.ch)
		}
	}
	return e.ch
}

// happen makes it happen, once.
func (e *event) happen() {
	e.happened = true
	if e.ch != nil {
		close(e.ch)
	}
}
