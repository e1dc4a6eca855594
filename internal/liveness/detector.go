package liveness

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdlock/etcdlock/internal/backoff"
	"github.com/etcdlock/etcdlock/internal/wire"
)

const (
	// watchAfter is how long a campaign must last for its leader to be watched.
	watchAfter = 100 * time.Millisecond
	// refusals is how many refusals in a row show that a process is dead. One alone might come
	// from a machine that is out of room for another connection.
	refusals = 3
	// refusalPause lies between two of them.
	refusalPause = 10 * time.Millisecond
	// dialTimeout is for an address that does not answer, from which nothing is concluded.
	dialTimeout = 2 * time.Second

	// firstProbe is the pause before the second probe of a leader. The pause doubles with each
	// probe up to mostProbe, unless the connection before lasted for steady. Each probe
	// begins with one linearizable read. A candidate therefore makes at most 24 of them in
	// the first minute and 12 in each further one; and at most 60 in any minute, even if the
	// address accepts connections and closes them in the rhythm that costs most.
	firstProbe = 10 * time.Millisecond
	mostProbe  = 10 * time.Second
	steady     = 10 * time.Second
)

// Leader is the leader of an election. Without a lease there is no leader, or none that can be watched.
type Leader struct {
	Value          string
	Lease          clientv3.LeaseID
	CreateRevision int64
}

// Detector is the failure detector of one session. A nil Detector does nothing.
type Detector struct {
	Config
	own     wire.Liveness // of this process, which signs marks by it
	network Network
	scope   string // of this process, see loopbackScope
}

// Watch watches, for a candidate in an election, whether the process of the leader is alive. It ends
// with ctx, with the session, or when stop is called, which waits for it.
func (d *Detector) Watch(ctx context.Context, election string) (stop func()) {
	if d == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	if !d.Spawn(func() {
		defer close(done)
		select {
		case <-time.After(watchAfter):
			d.watch(ctx, election)
		case <-ctx.Done():
		case <-d.Context.Done():
		}
	}) {
		close(done)
	}
	return func() { cancel(); <-done }
}

// watch runs one probe loop at a time, for the present leader.
func (d *Detector) watch(ctx context.Context, election string) {
	var watched Leader
	dismiss := func() {}
	defer func() { dismiss() }()
	err := d.Observe(ctx, election, func(l Leader) bool {
		if l.Lease == watched.Lease && l.CreateRevision == watched.CreateRevision {
			return true
		}
		dismiss()
		watched, dismiss = l, func() {}
		if l.Lease == clientv3.NoLease || l.Lease == d.OwnLease() {
			return true
		}
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			d.probeLoop(ctx, election, l)
		}()
		dismiss = func() { cancel(); <-done }
		return true
	})
	if err != nil && d.Context.Err() == nil && ctx.Err() == nil {
		d.Log.Warn("crash detection is off: cannot observe the leader", zap.String("name", election), zap.Error(err))
	}
}

// probeLoop probes one leader until its process is dead or ctx ends.
func (d *Detector) probeLoop(ctx context.Context, election string, l Leader) {
	for n := 0; ; n++ {
		record, at, err := d.read(ctx, l.Lease)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			d.Log.Warn("crash detection is off for a leader: cannot read its record", zap.String("name", election), zap.Error(err))
			return
		case record.Dead:
			// The mark is by another candidate, which may have died since, or by an earlier try
			// of this one that was not answered. No process can take the lease over any more.
			d.revoke(election, l, record)
			return
		case d.isComparable(record):
			began := time.Now()
			lived, dead := d.probe(ctx, record.Address)
			if dead && d.revokeDeadLeader(ctx, election, l, record, at) {
				return
			}
			if lived && time.Since(began) >= steady {
				n = 0 // the connection broke: ask again at once
			}
		}
		select {
		// The leader may publish its address in a moment, or never.
		case <-time.After(backoff.Delay(n, firstProbe, mostProbe, int64(d.OwnLease()))):
		case <-ctx.Done():
			return
		}
	}
}

// isComparable reports whether the address in a record means the same machine here and there.
func (d *Detector) isComparable(record wire.Liveness) bool {
	return record.Address != "" && (!isLoopback(record.Address) || record.Scope == d.scope)
}

// probe connects to an address and blocks until the connection ends. lived is true if there was a
// connection. dead is true if a host that answers refused it.
func (d *Detector) probe(ctx context.Context, address string) (lived, dead bool) {
	for refused := 0; refused < refusals; refused++ {
		if refused > 0 {
			select {
			case <-time.After(refusalPause):
			case <-ctx.Done():
				return false, false
			}
		}
		bounded, cancel := context.WithTimeout(ctx, dialTimeout)
		c, err := d.network.Dial(bounded, address)
		cancel()
		switch {
		case err == nil:
			stop := context.AfterFunc(ctx, func() { _ = c.Close() })
			_, _ = c.Read(make([]byte, 1)) // until either side closes it
			stop()
			_ = c.Close()
			return true, false
		case ctx.Err() != nil || !errors.Is(err, syscall.ECONNREFUSED):
			return false, false
		}
	}
	return false, true
}

// revokeDeadLeader marks the record of a dead process and has its lease revoked, if the probed record
// is still in etcd. It returns false if the record was replaced. A successor that replaces the record
// at the same time either keeps the lease or never gets it.
//
// The mark is final, and any candidate that finds it revokes the lease: the revocation does
// not depend on the process that wrote the mark.
func (d *Detector) revokeDeadLeader(ctx context.Context, election string, l Leader, record wire.Liveness, at int64) bool {
	record.Dead, record.By = true, fmt.Sprintf("%s, process %d", d.own.Host, d.own.PID)
	written, err := d.replace(ctx, l.Lease, at, record)
	switch {
	case ctx.Err() != nil:
		return true
	case err != nil:
		d.warnDead(election, l, record, err)
		return true
	case written != 0:
		d.revoke(election, l, record)
	}
	return written != 0
}

// revoke revokes the lease of a leader with a marked record, in a goroutine of its own: the probe loop
// that calls it ends as soon as the leader's key is gone, which may be before the answer. The
// goroutine ends with the session, or when etcd has answered.
func (d *Detector) revoke(election string, l Leader, record wire.Liveness) {
	d.Spawn(func() {
		tried, revoked := false, false
		err := d.Insist(d.Context, func(ctx context.Context) error {
			_, err := d.Leases.Revoke(ctx, l.Lease)
			switch {
			case errors.Is(err, rpctypes.ErrLeaseNotFound):
				revoked = tried // by an earlier try; otherwise by another candidate, which logs it
				return nil
			case err != nil:
				tried = true
				return err
			}
			revoked = true
			return nil
		})
		switch {
		case revoked:
			d.Log.Warn("the leader's process is dead: its lease was revoked", deadLeader(election, l, record)...)
		case err != nil && d.Context.Err() == nil:
			d.warnDead(election, l, record, err)
		}
	})
}

func (d *Detector) warnDead(election string, l Leader, record wire.Liveness, err error) {
	d.Log.Warn("the leader's process is dead, but its lease cannot be revoked; it must expire",
		append(deadLeader(election, l, record), zap.Error(err))...)
}

func deadLeader(election string, l Leader, record wire.Liveness) []zap.Field {
	return []zap.Field{
		zap.String("name", election), zap.String("leader", l.Value), zap.String("lease", wire.Hex(l.Lease)),
		zap.String("address", record.Address), zap.String("host", record.Host), zap.Int("pid", record.PID),
	}
}
