package sweeper

// parked is the index of a key that is not in the heap.
const parked = -1

// dueKeys is a heap of the keys by when they are due.
type dueKeys []*doubt

func (h dueKeys) Len() int           { return len(h) }
func (h dueKeys) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueKeys) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *dueKeys) Push(x any) {
	d := x.(*doubt)
	d.index = len(*h)
	*h = append(*h, d)
}

func (h *dueKeys) Pop() any {
	old := *h
	d := old[len(old)-1]
	old[len(old)-1] = nil
	*h, d.index = old[:len(old)-1], parked
	return d
}
