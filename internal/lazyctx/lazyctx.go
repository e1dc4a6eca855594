package etcdlock

import (
	"context"
	"sync"
	"sync/atomic"
)

// span is a time that ends once, for a cause, or with the time that it is a part of. It
// has a context, which is made when somebody asks for it: most spans are over before
// anybody does, and to keep the books of a context costs more than everything else that
// is done about an uncontended lock.
type span struct {
	of    *span           // what it is a part of; nil: of a context
	outer context.Context // that one

	cause atomic.Pointer[error] // nil until the end is known here

	mu     sync.Mutex
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// within makes the span a part of the time of a context.
func (s *span) within(ctx context.Context) { s.outer = ctx }

// over is why the span has ended; nil while it has not.
func (s *span) over() error {
	if cause := s.cause.Load(); cause != nil {
		return *cause
	}
	if err := s.outerOver(); err != nil {
		return s.ends(err)
	}
	return nil
}

// end ends the span; the first cause counts.
func (s *span) end(cause error) {
	if err := s.over(); err != nil {
		cause = err
	}
	cause = s.ends(cause)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		s.cancel(cause)
	}
}

// leave ends the context, if there is one, of a span that nobody asks about any more.
func (s *span) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		s.cancel(context.Canceled)
	}
}

// ends takes note of the end, and returns its cause: that of whoever was the first.
func (s *span) ends(cause error) error {
	s.cause.CompareAndSwap(nil, &cause)
	return *s.cause.Load()
}

// context ends with the span.
func (s *span) context() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil {
		outer := s.outer
		if s.of != nil {
			outer = s.of.context()
		}
		s.ctx, s.cancel = context.WithCancelCause(outer)
		if cause := s.cause.Load(); cause != nil {
			s.cancel(*cause)
		}
	}
	return s.ctx
}

func (s *span) outerOver() error {
	switch {
	case s.of != nil:
		return s.of.over()
	case s.outer.Err() == nil:
		return nil // Cause would take the context's lock
	default:
		return context.Cause(s.outer)
	}
}
