package faultproxy

import (
	"net"
	"sync"
	"time"
)

// chunk is what one read returned, and when.
type chunk struct {
	at   time.Time
	data []byte
}

// chunks is an unbounded queue between the reader and the writer of one
// direction. It has to be unbounded: a sender must not notice that its bytes
// are held back.
type chunks struct {
	mu     sync.Mutex
	ready  *sync.Cond
	queue  []chunk
	closed bool
}

func newChunks() *chunks {
	c := &chunks{}
	c.ready = sync.NewCond(&c.mu)
	return c
}

// fill reads until the connection ends.
func (c *chunks) fill(src net.Conn) {
	buf := make([]byte, 32*1024)
	for {
		n, err := src.Read(buf)
		c.mu.Lock()
		if n > 0 {
			c.queue = append(c.queue, chunk{time.Now(), append([]byte(nil), buf[:n]...)})
		}
		if err != nil {
			c.closed = true
		}
		c.ready.Signal()
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// next waits for the next chunk; false after the last one.
func (c *chunks) next() (chunk, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) == 0 && !c.closed {
		c.ready.Wait()
	}
	if len(c.queue) == 0 {
		return chunk{}, false
	}
	first := c.queue[0]
	c.queue = c.queue[1:]
	return first, true
}
