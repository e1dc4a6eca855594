package etcdlock

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// inherit makes a lease that was taken over one of this process, for those who judge by
// addresses; see disown.
func (s *Session) inherit(ctx context.Context, id clientv3.LeaseID) error {
	var own aliveRecord
	if s.beacon != nil {
		own = s.beacon.record
	}
	return s.disown(ctx, id, own)
}
