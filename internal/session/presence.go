package session

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/leasefile"
	"github.com/etcdlock/etcdlock/internal/liveness"
	"github.com/etcdlock/etcdlock/internal/lockerr"
)

// presence tells other processes that this process lives. Its fields do not change after Open.
type presence struct {
	log      *zap.Logger
	listener *liveness.Listener // nil without crash detection
	path     string             // of the lease file
	file     *leasefile.File    // locked by this process; nil without a lease file
}

// listen opens the listener of crash detection, or joins that of another session.
func (p *presence) listen(cfg *Config) (err error) {
	switch {
	case cfg.Listener != nil:
		p.listener = cfg.Listener.Share()
	case cfg.ListenAt != nil:
		network := liveness.Network(cfg.Hooks.Network)
		if network == nil {
			network = liveness.TCP{}
		}
		p.listener, err = liveness.Listen(network, *cfg.ListenAt, cfg.Host)
	}
	return err
}

// lockFile locks the lease file. It blocks until no other process has the file, or ctx ends.
func (p *presence) lockFile(ctx context.Context) (err error) {
	p.file, err = leasefile.Lock(ctx, p.path, func() {
		p.log.Info("another process has the lease file; waiting until that process ends", zap.String("file", p.path))
	})
	switch {
	case errors.Is(err, leasefile.ErrInUse):
		return fmt.Errorf("%w: %s: %w", lockerr.ErrLeaseFileInUse, p.path, lockerr.OfContext(ctx))
	case errors.Is(err, errors.ErrUnsupported):
		return fmt.Errorf("%w: %w", lockerr.ErrInvalidOption, err)
	}
	return err
}

// record writes the present lease into the lease file, for the next process; NoLease for none.
func (p *presence) record(id clientv3.LeaseID) {
	if p.file == nil {
		return
	}
	if err := p.file.Write(int64(id)); err != nil {
		p.log.Error("cannot write the lease file; a restart will begin with a new lease",
			zap.String("file", p.path), zap.Error(err))
	}
}

// close closes the listener, and gives up the lock on the lease file. Further calls do nothing.
func (p *presence) close() {
	p.file.Close()
	p.listener.Close()
}
