package main

import (
	"context"
	"time"
)

// compact takes away the history that watches start from, as fast as it comes, while
// clients hold and wait; and breaks connections, so that watches have to start again.
func compact(ctx context.Context, s *scene) error {
	s.keepers(ctx)
	admin, err := s.cluster.Client()
	if err != nil {
		return err
	}
	defer admin.Close()
	s.begin()
	done, broken := 0, s.began
	for now().sub(s.began) < s.ttl+2*time.Second && ctx.Err() == nil {
		resp, err := admin.Get(ctx, "any")
		if err != nil {
			return err
		}
		if _, err := admin.Compact(ctx, resp.Header.Revision); err == nil { // an error: nothing is new
			done++
		}
		if now().sub(broken) > time.Second {
			broken = now()
			for _, l := range links(s.everyone()) {
				l.Drop()
			}
		}
		if now().sub(s.began) > s.ttl {
			for _, p := range s.everyone() {
				_ = p.tell(goOn)
			}
		}
		wait(ctx, 20*time.Millisecond)
	}
	s.note("%d compactions", done)
	s.healed()
	return nil
}
