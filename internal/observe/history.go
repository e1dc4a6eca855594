package observe

import "github.com/etcdlock/etcdlock/internal/queue"

const (
	// mostChanges and mostBytes bound the changes that a follower keeps for slow observers. One
	// change is kept whatever its size.
	mostChanges = 256
	mostBytes   = 4 << 20
)

// history has the latest changes of a leader, for observers of any pace. An observer refers to a
// change by its number, so that a dropped change is freed. The owner of the history guards it.
type history struct {
	changes []queue.Head // oldest first
	dropped int          // number of changes that were dropped from the front of changes
	size    int          // of changes, in bytes
	latest  queue.Head   // last reading, with or without a change; Rev is 0 before the first
}

// observer is the progress of one observer in a history.
type observer struct {
	late   bool        // the history had begun when the observer joined
	number int         // of the change that is looked at next
	last   *queue.Head // reported last; nil before the first
}

// observer returns the progress of a new observer, which sees later changes only.
func (h *history) observer() observer {
	return observer{late: h.latest.Rev > 0, number: h.dropped + len(h.changes)}
}

// add takes in a reading.
func (h *history) add(head queue.Head) {
	changed := h.latest.Rev == 0 || !head.Same(h.latest)
	h.latest = head
	if !changed {
		return
	}
	h.changes = append(h.changes, head)
	h.size += head.Size()
	for len(h.changes) > 1 && (len(h.changes) > mostChanges || h.size > mostBytes) {
		h.size -= h.changes[0].Size()
		h.changes[0] = queue.Head{} // its value is freed before the array is
		h.changes = h.changes[1:]
		h.dropped++
	}
}

// next returns the head that is reported next and notes that it is reported; nil if there is none yet.
func (h *history) next(o *observer) *queue.Head {
	for o.number = max(o.number, h.dropped); o.number-h.dropped < len(h.changes); {
		head := h.changes[o.number-h.dropped]
		o.number++
		if head.News(o.last) {
			o.last = &head
			return o.last
		}
	}
	// An observer that joined late may have read a head that the follower never saw, and that is
	// over by now.
	if head := h.latest; head.Rev > 0 && head.News(o.last) {
		o.last = &head
		return o.last
	}
	return nil
}
