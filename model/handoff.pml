/* Direct handoff in one queue: the release tells the successor, by one event that proves
 * the grant. Up to four sessions, one etcd.
 *
 * Sessions 0 to NEW-1 have direct handoff. Each of their entries is marked or not: a
 * session that enters marked listens to its inbox, and hands over when it leaves. The
 * sessions after them are plain: an older version, or etcd's own library. They enter
 * unmarked, wait for the deletion of the entry ahead, read, and delete their key.
 *
 * An entry is CreateRevision * 2 + mark. So it is unique, ordered by CreateRevision, and
 * tells what the name of its key tells. README.md goes through this file part by part.
 *
 * A rule is taken out by a macro, as in spin -a -DNO_GUARD_SUCCESSOR handoff.pml.
 */

#ifndef NEW
#define NEW 3
#endif
#ifndef PLAIN
#define PLAIN 0
#endif
#ifndef ROUNDS0
#define ROUNDS0 1    /* how often session 0 locks */
#endif
#ifndef ROUNDS1
#define ROUNDS1 1    /* how often session 1 locks */
#endif
#ifndef ROUNDS
#define ROUNDS 1     /* how often each of the others locks */
#endif
#ifndef FAULTS
#define FAULTS 0     /* how many things go wrong, of the kinds that are switched on */
#endif
#ifndef K
#define K 2          /* the length of a list, 1 or 2 */
#endif

#define N 4          /* room for sessions */
#define ALL (NEW + PLAIN)
#define each(k) k : 0 .. ALL - 1
#define eachKey(k) k : 0 .. 2 * ALL - 1

/* ---- etcd ---- */

/* Only the order of revisions matters. So the revision grows when a key is created and
 * when the oldest entry is deleted, and not otherwise. */
byte rev;
byte key[2*N];       /* two for each session, for a release that enters again; 0: no key */

#define isMarked(e)  ((e) & 1)
#define created(e)   ((e) >> 1)
#define stands(e)    ((e) != 0 && (key[0] == (e) || key[1] == (e) || key[2] == (e) || key[3] == (e) || key[4] == (e) || key[5] == (e) || key[6] == (e) || key[7] == (e)))
#define own(i)       key[2*(i) + slot[i]]
#define others(i)    key[2*(i) + 1 - slot[i]]

/* ---- the network ---- */

byte faults = FAULTS;
bool untold;         /* a marked entry that others rely on is gone, and no session can tell the next one */

/* The messages in the inbox of a session, as its watch reports them: true for a turn, false for a
 * look; the entry that it is for; the token; the list of entries behind. An inbox is never read. */
chan inbox[N] = [4] of { bool, byte, byte, byte, byte };
bool noInbox[N];     /* an administrator has deleted it; then a message for it is refused */
bool broken[N];      /* the watch had to be opened again, and may have missed messages */

/* Requests that were asked a second time, and whose first copy may still arrive. */
bool lateEnter[N];
byte lateLeave[N];   /* the entry that it deletes; 0: there is none */
byte lateKey[N], lateA[N], lateB[N];
bool lateHeld[N], lateBehind[N], lateAgain[N];

/* ---- a session ---- */

mtype = { Idle, Entered, Look, Waiting, Held, List, Leave, Pass, Dead, Done };
mtype state[N] = Done;
mtype = { Alone, Marked, Other, OwnKey };
mtype found[N] = Alone;      /* what the transaction that enters has seen */

byte rounds[N];
bool alive[N];       /* the lease */
bool unsure[N];      /* a request to enter may take effect late */
byte place[N];       /* the own entry */
bool slot[N];        /* which of the two keys */
bool awake[N];       /* it watches the entry ahead, and reads when that one is gone */
byte ahead[N];       /* that entry */
byte witness[N];     /* a marked entry that was behind the own one when that was deleted */
byte a[N], b[N];     /* the list: entries behind the own one, complete up to the last one of the list */
bool behind[N];      /* the list begins behind entries that are not marked */
bool held[N];        /* it leaves as the holder */
bool again[N];       /* it releases and enters again by one transaction */
bool repeated[N];    /* a request to leave had no answer */
byte tries[N];

/* ---- what must be so at every grant ---- */

byte proven[N];      /* the entry of a session that was the oldest at some revision */
byte lastToken, lastPlace;
bool deleted;        /* an administrator has deleted a key, or a lease has ended */
bool two_holders, token_not_growing, out_of_order, not_proven, place_lost, livelock, stuck, left_behind;
byte k = 2*N, x, y, z, w;     /* of one step; the same between two steps */
bool s, t;

/* Of the transaction that leaves: the entry that it tells, the list for that one, the end of the list. */
byte told, rest, tail;
bool turn;
mtype = { Applied, Gone, Refused };
mtype result = Applied;

inline prove() {     /* at this revision, the oldest entry is the oldest */
	x = 255;
	for (eachKey(k)) { if :: key[k] != 0 && key[k] < x -> x = key[k]; y = k / 2 :: else fi }
	if :: x != 255 -> proven[y] = x :: else fi;
	x = 0; y = 0; k = 2*N
}

inline create(i, m) {
	rev++;
	assert(rev < 120);
	own(i) = rev * 2 + m;
	prove()
}

inline remove(n) {   /* key[n] */
	s = true;
	for (eachKey(k)) { if :: key[k] != 0 && key[k] < key[n] -> s = false :: else fi }
	for (each(k)) {
		if :: ahead[k] == key[n] -> ahead[k] = 0 :: else fi;
#ifndef WITNESS_MAY_BE_GONE
		if :: witness[k] == key[n] -> witness[k] = 0 :: else fi
#endif
	}
	if :: s -> rev++ :: else fi;
	s = false;
	key[n] = 0;
	prove()
}

inline older(p) {    /* y: the entry ahead of p; z: a marked one is older than p */
	y = 0; z = 0;
	for (eachKey(k)) {
		if :: key[k] != 0 && key[k] < p && key[k] > y -> y = key[k] :: else fi;
		if :: key[k] != 0 && key[k] < p && isMarked(key[k]) -> z = 1 :: else fi
	}
	k = 2*N
}

inline younger(p) {  /* y: the entry behind p */
	y = 255;
	for (eachKey(k)) { if :: key[k] > ((p) | 1) && key[k] < y -> y = key[k] :: else fi }
	if :: y == 255 -> y = 0 :: else fi;
	k = 2*N
}

/* The first K entries behind p, in one range. */
inline list(i, p) {
	younger(p); a[i] = y; b[i] = 0;
#ifdef HOLES                 /* not in one range: the entry behind p is missed */
	if :: a[i] != 0 -> younger(a[i]); if :: y != 0 -> a[i] = y :: else fi :: else fi;
#endif
#if K > 1
	if :: a[i] != 0 -> younger(a[i]); b[i] = y :: else fi;
#endif
	y = 0
}

#define isOf(e, i)   (key[2*(i)] == (e) || key[2*(i) + 1] == (e))
#define hasInbox(e)  (!(isOf(e, 0) && noInbox[0] || isOf(e, 1) && noInbox[1] || isOf(e, 2) && noInbox[2] || isOf(e, 3) && noInbox[3]))

/* A message to the inbox of a standing entry, in a transaction. */
inline put(tells, e, la, lb) {
	for (eachKey(k)) {
		if
		:: key[k] == e && state[k/2] != Dead && k/2 < NEW ->
			assert(nfull(inbox[k/2]));
			inbox[k/2]!tells, e, rev, la, lb
		:: else
		fi
	}
	k = 2*N
}

/* ---- grants ---- */

inline grant(i, token) {
	state[i] = Held; awake[i] = false; ahead[i] = 0; found[i] = Alone;
	printf("session %d holds, token %d\n", i, token);
	if
	:: own(i) == place[i] ->     /* a hold without a key is over by its deadline, see lock.pml */
		for (each(k)) {
			if :: k != i && state[k] == Held && own(k) == place[k] -> two_holders = true :: else fi
		}
		k = 2*N;
		assert(!two_holders);
#ifndef EXCLUSION_ONLY
		not_proven = proven[i] != place[i];
		assert(!not_proven);
		token_not_growing = token <= lastToken;
		assert(!token_not_growing);
		out_of_order = place[i] <= lastPlace;
		assert(!out_of_order);
#endif
		lastToken = token;
		lastPlace = place[i]
	:: else
	fi
}

inline drain(i) {
	do
	:: nempty(inbox[i]) -> inbox[i]?t, x, y, z, w
	:: empty(inbox[i]) -> break
	od;
	t = false; x = 0; y = 0; z = 0; w = 0
}

#ifdef NO_INCARNATION
#define forget(i)
#else
#define forget(i) drain(i)   /* messages for an entry that is gone would be ignored */
#endif

inline fresh(i) {            /* nothing is known of the next entry */
	ahead[i] = 0; awake[i] = false; a[i] = 0; b[i] = 0; behind[i] = false; held[i] = false;
	again[i] = false; repeated[i] = false; tries[i] = 0
}

inline keyGone(i) {          /* the own key is gone, and this session has not deleted it */
	place_lost = !deleted;
	assert(!place_lost)
}

inline home(i) {
	fresh(i); broken[i] = false; forget(i);
	place[i] = 0; found[i] = Alone; proven[i] = 0;
	if :: rounds[i] == 0 -> witness[i] = 0 :: else fi;
	state[i] = Idle
}

/* ---- enter ---- */

/* all: what is read shows a marked entry, if one stands. Otherwise the read is too short. */
inline enter(i, m, all) {
	rounds[i]--;
	if
	:: own(i) != 0 ->            /* by an earlier try */
		place[i] = own(i);
		found[i] = OwnKey;
		printf("etcd %d: session %d finds its key of %d\n", rev, i, created(place[i]))
	:: else ->
#ifdef WITNESS_MAY_BE_GONE
		s = witness[i] != 0;
#else
		s = stands(witness[i]);
#endif
		create(i, m);
		place[i] = own(i);
		older(place[i]);
		if
		:: m && s -> found[i] = Marked      /* without a read */
		:: !(m && s) && y == 0 -> found[i] = Alone
		:: !(m && s) && y != 0 && m && z && all -> found[i] = Marked
		:: else -> found[i] = Other
		fi;
		s = false; y = 0; z = 0;
		printf("etcd %d: session %d enters, marked %d, finds %e\n", rev, i, m, found[i])
	fi;
	witness[i] = 0;
	state[i] = Entered
}

#define crowd (((key[0] != 0) + (key[1] != 0) + (key[2] != 0) + (key[3] != 0) + (key[4] != 0) + (key[5] != 0) + (key[6] != 0) + (key[7] != 0)) >= 2)

/* ---- leave: one routine for a release, a wait that is cancelled, and a sweep ---- */

/* The transaction deletes the entry p under the key n, and tells the first marked entry of
 * the list la, lb. Only the holder gives a turn, and only to the entry right behind it. If
 * no entry of the list is marked, no entry may stand behind the end of the list. */
inline commit(n, p, la, lb, isHeld, isBehind, enters) {
	told = (isMarked(la) -> la : (isMarked(lb) -> lb : 0));
	turn = isHeld && !isBehind && told != 0 && told == la;
	tail = (lb != 0 -> lb : (la != 0 -> la : p));
#ifdef TURN_PAST_UNMARKED
	turn = isHeld && told != 0;
#endif
#ifdef TURN_TO_UNMARKED
	if :: isHeld && !isBehind && la != 0 -> told = la; turn = true :: else fi;
#endif
	rest = (turn && told == la -> lb : 0);
	younger(tail);
#ifdef NO_COMPARE_EMPTY
	if :: isHeld && la == 0 -> y = 0 :: else fi;
#endif
#ifdef NO_COMPARE_UNMARKED
	if :: isHeld && la != 0 -> y = 0 :: else fi;
#endif
#ifdef NO_COMPARE_CANCEL
	if :: !isHeld -> y = 0 :: else fi;
#endif
	s = (told == 0 -> y == 0 : stands(told) && hasInbox(told));
#ifdef NO_GUARD_SUCCESSOR
	s = s || turn;
#endif
#ifdef NO_GUARD_WAITER
	s = s || (told != 0 && !turn);
#endif
	y = 0;
	if
#ifdef NO_GUARD_OWN          /* what stands under the key is deleted */
	:: key[n] == 0 -> result = Gone
#else
	:: key[n] != p -> result = Gone
#endif
	:: else -> result = (s -> Applied : Refused)
	fi;
	s = false;
	if
	:: result == Applied ->
		remove(n);
		if
		:: enters ->         /* in the same transaction, at the same revision */
			assert(key[(n) ^ 1] == 0);
			key[(n) ^ 1] = rev * 2 + 1;
			prove()
		:: else
		fi;
		printf("etcd %d: session %d leaves, turn %d, tells %d, enters %d\n", rev, (n)/2, turn, created(told), enters);
		if
#ifdef NO_LOOK_PAST_UNMARKED
		:: told != 0 && (turn || !isHeld) -> put(turn, told, rest, 0)
#else
		:: told != 0 -> put(turn, told, rest, 0)
#endif
		:: else
		fi
	:: else
	fi
}

inline unmark(i) {           /* the first marked entry of the list has no inbox */
	if :: isMarked(a[i]) -> a[i] = a[i] - 1 :: else -> b[i] = b[i] - 1 fi
}

inline forgetCommit() { told = 0; rest = 0; tail = 0; turn = false; result = Applied }

/* The key of a release that enters again stands: the release was applied. */
inline entered(i, what) {
	slot[i] = 1 - slot[i];
	fresh(i);
	if :: what != OwnKey -> broken[i] = false; forget(i) :: else fi;
	place[i] = own(i);
	found[i] = what;
	state[i] = Entered
}

inline refused(i) {          /* what the else branch has read */
	if
	:: told != 0 && !stands(told) -> behind[i] = false; list(i, place[i])
	:: told != 0 && stands(told) -> unmark(i)
	:: told == 0 ->
#ifdef READS_THE_SAME
		list(i, place[i])
#else
		behind[i] = behind[i] || tail != place[i];
		list(i, tail)
#endif
	fi
}

inline leave(i, answered) {
	commit(2*i + slot[i], place[i], a[i], b[i], held[i], behind[i], again[i]);
	if
	:: result == Applied && !answered ->
		faults--;
		repeated[i] = true;
		printf("the answer to session %d is lost\n", i)
	:: result == Applied && answered ->
		if
		:: again[i] ->
			if
			:: told != 0 -> entered(i, Marked)
#ifdef AGAIN_IS_ALONE        /* behind unmarked entries, too */
			:: told == 0 -> entered(i, Alone)
#else
			:: told == 0 && tail == place[i] -> entered(i, Alone)
			:: told == 0 && tail != place[i] -> entered(i, Other)
#endif
			fi
		:: else ->
#ifdef WITNESS
			witness[i] = (isMarked(b[i]) -> b[i] : (isMarked(a[i]) -> a[i] : 0));
#ifdef WITNESS_UNMARKED
			witness[i] = (b[i] != 0 -> b[i] : a[i]);
#endif
#endif
			home(i)
		fi
	:: result == Gone ->
		if
#ifndef AGAIN_IS_FORGOTTEN
		:: again[i] && others(i) != 0 -> entered(i, OwnKey)
#endif
#ifdef SILENT_REPETITION
		:: repeated[i] && !(again[i] && others(i) != 0) -> home(i)
#endif
#ifdef SILENT_GONE
		:: !repeated[i] && !(again[i] && others(i) != 0) -> home(i)
#endif
		:: else ->
			if :: !repeated[i] -> keyGone(i) :: else fi;
			behind[i] = false; list(i, place[i]); state[i] = Pass
		fi
	:: result == Refused && tries[i] > 2 * ALL -> livelock = true; assert(!livelock)
	:: result == Refused && tries[i] <= 2 * ALL -> tries[i]++; refused(i)
	fi;
	forgetCommit()
}

/* ---- the session ---- */

#define mayEnter(i) (state[i] == Idle && rounds[i] > 0 && alive[i])

proctype Session(byte i) {
	do
	/* Enter: one transaction, asked again until it is answered. */
	:: d_step { mayEnter(i) && i < NEW -> enter(i, 1, 1) }
#ifdef SHORT_READ
	:: d_step { mayEnter(i) && i < NEW && crowd -> enter(i, 1, 0) }
#endif
#ifdef ALL_MARKED
	:: d_step { mayEnter(i) && i >= NEW -> enter(i, 0, 1) }
#else
	:: d_step { mayEnter(i) -> enter(i, 0, 1) }
#endif
#ifdef LATE
	:: d_step { mayEnter(i) && i < NEW && faults > 0 && !lateEnter[i] && own(i) == 0 ->
		faults--;
		lateEnter[i] = true; unsure[i] = true;
		printf("session %d asks to enter once more\n", i)
	   }
#endif
#ifdef LOST
	:: d_step { state[i] == Entered && i < NEW && faults > 0 ->
		faults--;
		rounds[i]++;
		untold = untold || isMarked(place[i]) && own(i) != place[i];
		state[i] = Idle; place[i] = 0; found[i] = Alone;
		printf("the answer to session %d is lost\n", i)
	   }
	:: d_step { state[i] == Entered && i < NEW && faults > 0 && isMarked(place[i]) ->
		faults--;
		found[i] = Alone;
#ifdef SWEEP_IS_PLAIN
		if :: own(i) == place[i] -> remove(2*i + slot[i]) :: else fi;
		home(i);
#else
		state[i] = List;
#endif
		printf("session %d gives up without an answer\n", i)
	   }
#endif
	:: d_step { state[i] == Entered ->
#ifdef OPENS_LATE            /* the watch on the inbox */
		drain(i);
#endif
		if
		:: found[i] == Alone -> grant(i, created(place[i]))
#ifdef NO_SENTINEL
		:: found[i] != Alone && isMarked(place[i]) -> state[i] = Waiting
		:: found[i] != Alone && !isMarked(place[i]) -> awake[i] = true; state[i] = Look
#else
		:: found[i] == Marked -> state[i] = Waiting
#ifdef OWN_KEY_SLEEPS
		:: found[i] == OwnKey && isMarked(place[i]) -> state[i] = Waiting
		:: found[i] == Other || found[i] == OwnKey && !isMarked(place[i]) -> awake[i] = true; state[i] = Look
#else
		:: found[i] == Other || found[i] == OwnKey -> awake[i] = true; state[i] = Look
#endif
#endif
		fi;
		found[i] = Alone
	   }

	/* Wait: for a turn or a look, and if awake also for the entry ahead to go. */
	:: d_step { state[i] == Waiting && nempty(inbox[i]) ->
		inbox[i]?t, x, y, z, w;
#ifdef NO_INCARNATION
		if :: isMarked(place[i]) -> x = place[i] :: else fi;
#endif
		if
		:: x == place[i] && t && alive[i] ->
			a[i] = z; b[i] = w;
			grant(i, y)
		:: x == place[i] && !(t && alive[i]) -> awake[i] = true; state[i] = Look
		:: else                      /* for an earlier entry */
		fi;
		t = false; x = 0; y = 0; z = 0; w = 0
	   }
#ifndef RESUMES_BLIND
	:: d_step { state[i] == Waiting && broken[i] -> broken[i] = false; awake[i] = true; state[i] = Look }
#endif
	:: d_step { state[i] == Waiting && (awake[i] && !stands(ahead[i]) || own(i) != place[i]) -> ahead[i] = 0; state[i] = Look }
#ifdef SETTLE
	:: d_step { state[i] == Waiting && !awake[i] && (SETTLE == 1 || untold) -> awake[i] = true; state[i] = Look }
#endif
	:: d_step { state[i] == Look ->      /* one read at one revision */
		if
		:: own(i) != place[i] ->
			keyGone(i);
#ifdef SILENT_DELETED
			home(i)
#else
			if :: isMarked(place[i]) -> list(i, place[i]); state[i] = Pass :: else -> home(i) fi
#endif
		:: else ->
			older(place[i]);
			if
#ifdef TOKEN_BY_CREATION
			:: y == 0 -> z = 0; grant(i, created(place[i]))
#else
			:: y == 0 -> z = 0; grant(i, rev)
#endif
			:: else -> ahead[i] = y; state[i] = Waiting
			fi;
			y = 0; z = 0
		fi
	   }
#ifdef CANCEL
	:: d_step { state[i] == Waiting && faults > 0 ->
		faults--;
		printf("session %d cancels\n", i);
		ahead[i] = 0; awake[i] = false;
#ifdef CANCEL_IS_PLAIN
		if :: own(i) == place[i] -> remove(2*i + slot[i]) :: else fi;
		home(i)
#else
		if
		:: isMarked(place[i]) -> state[i] = List
		:: else ->
			if :: own(i) == place[i] -> remove(2*i + slot[i]) :: else fi;
			home(i)
		fi
#endif
	   }
#endif

	/* Hold, and leave. */
#ifdef TURN_AFTER_LOOK       /* a turn that comes late counts too */
	:: d_step { state[i] == Held && nempty(inbox[i]) ->
		inbox[i]?t, x, y, z, w;
		if :: t && x == place[i] -> grant(i, y) :: else fi;
		t = false; x = 0; y = 0; z = 0; w = 0
	   }
#endif
#ifdef RELEASE_IS_PLAIN      /* by an older version that has adopted the lease */
	:: d_step { state[i] == Held && isMarked(place[i]) ->
		if :: own(i) == place[i] -> remove(2*i + slot[i]) :: else fi;
		home(i)
	   }
#endif
	:: d_step { state[i] == Held && isMarked(place[i]) ->
		held[i] = true;
		state[i] = (a[i] == 0 -> List : Leave);
		printf("session %d unlocks\n", i)
	   }
#ifdef AGAIN
	:: d_step { state[i] == Held && isMarked(place[i]) && rounds[i] > 0 && !unsure[i] && alive[i] ->
		rounds[i]--;
		held[i] = true; again[i] = true;
		state[i] = (a[i] == 0 -> List : Leave);
		printf("session %d unlocks, and locks again\n", i)
	   }
#endif
	:: d_step { state[i] == Held && !isMarked(place[i]) ->
		printf("session %d unlocks\n", i);
		if :: own(i) == place[i] -> remove(2*i + slot[i]) :: else fi;
		home(i)
	   }
#ifdef AGAIN
	/* Unmarked, and the next entry marked: what the transaction shows is known as of any entry. */
	:: d_step { state[i] == Held && !isMarked(place[i]) && own(i) == place[i] && i < NEW && rounds[i] > 0 && !unsure[i] && alive[i] ->
		rounds[i]--;
		remove(2*i + slot[i]);
		others(i) = rev * 2 + 1;
		prove();
		printf("etcd %d: session %d leaves, and enters marked\n", rev, i);
		entered(i, Other);
		older(place[i]);
		if
		:: y == 0 -> found[i] = Alone
		:: y != 0 && z -> found[i] = Marked
		:: else
		fi;
		y = 0; z = 0
	   }
#endif
	:: d_step { state[i] == List -> list(i, place[i]); state[i] = Leave }
#ifdef LAG                           /* a member that does not know the last entries yet */
	:: d_step { state[i] == List -> list(i, place[i]); a[i] = 0; b[i] = 0; state[i] = Leave }
	:: d_step { state[i] == List -> list(i, place[i]); b[i] = 0; state[i] = Leave }
#endif
	:: d_step { state[i] == Leave -> leave(i, true) }
#ifdef LOST
	:: d_step { state[i] == Leave && faults > 0 && own(i) == place[i] && !repeated[i] -> leave(i, false) }
#endif
#ifdef LATE
	:: d_step { state[i] == Leave && faults > 0 && lateLeave[i] == 0 && !repeated[i] ->
		faults--;
		repeated[i] = true;
		lateLeave[i] = place[i]; lateKey[i] = 2*i + slot[i]; lateA[i] = a[i]; lateB[i] = b[i];
		lateHeld[i] = held[i]; lateBehind[i] = behind[i]; lateAgain[i] = again[i];
		printf("session %d asks to leave once more\n", i)
	   }
#endif

	/* The own key is gone: a look for the first marked entry behind it. */
	:: d_step { state[i] == Pass ->
		told = (isMarked(a[i]) -> a[i] : (isMarked(b[i]) -> b[i] : 0));
		tail = (b[i] != 0 -> b[i] : a[i]);
		if
		:: told != 0 && stands(told) && !hasInbox(told) -> unmark(i)
		:: told != 0 && stands(told) && hasInbox(told) -> printf("session %d tells %d\n", i, created(told)); put(false, told, 0, 0); home(i)
		:: told != 0 && !stands(told) -> list(i, place[i])
		:: told == 0 && tail != 0 -> list(i, tail)
		:: told == 0 && tail == 0 -> home(i)
		fi;
		told = 0; tail = 0
	   }

	/* The late effect of a request to enter is waited for, and taken back. */
	:: d_step { state[i] == Idle && unsure[i] && !lateEnter[i] ->
		unsure[i] = false;
		if
		:: own(i) != 0 ->
			place[i] = own(i);
#ifdef SWEEP_IS_PLAIN
			remove(2*i + slot[i]);
			home(i)
#else
			if :: isMarked(place[i]) -> state[i] = List :: else -> remove(2*i + slot[i]); home(i) fi
#endif
		:: else
		fi
	   }
	:: d_step { state[i] == Idle && (rounds[i] == 0 || !alive[i]) && !unsure[i] -> rounds[i] = 0; home(i); state[i] = Done }
	:: state[i] == Done || state[i] == Dead -> break
	od
}

/* ---- what else happens ---- */

#define olderMarked(n, m) (key[m] != 0 && isMarked(key[m]) && key[m] < key[n])
#define isHead(n) (isMarked(key[n]) && !(olderMarked(n, 0) || olderMarked(n, 1) || olderMarked(n, 2) || olderMarked(n, 3) || olderMarked(n, 4) || olderMarked(n, 5) || olderMarked(n, 6) || olderMarked(n, 7)))

#define isUnknown(i, e) (isMarked(e) && (e) != place[i])     /* the session does not know yet that it stands */

inline expire(i) {
	alive[i] = false; deleted = true; untold = untold || isUnknown(i, key[2*i]) || isUnknown(i, key[2*i + 1]);
	if :: key[2*i] != 0 -> remove(2*i) :: else fi;
	if :: key[2*i + 1] != 0 -> remove(2*i + 1) :: else fi
}

proctype World(byte i) {
end:	do
	:: d_step { i == 0 && faults > 0 -> faults = 0 }     /* no more faults in this run */
#ifdef LATE
	:: d_step { lateEnter[i] ->
		lateEnter[i] = false;
		if
		:: alive[i] && own(i) == 0 -> create(i, 1); printf("etcd %d: an old request of session %d enters\n", rev, i)
		:: else
		fi
	   }
	:: d_step { lateEnter[i] -> lateEnter[i] = false }
	:: d_step { lateLeave[i] != 0 ->
		printf("an old request of session %d to leave arrives\n", i);
		commit(lateKey[i], lateLeave[i], lateA[i], lateB[i], lateHeld[i], lateBehind[i], lateAgain[i]);
		forgetCommit();
		lateLeave[i] = 0; lateKey[i] = 0; lateA[i] = 0; lateB[i] = 0; lateHeld[i] = false; lateBehind[i] = false; lateAgain[i] = false
	   }
	:: d_step { lateLeave[i] != 0 ->
		lateLeave[i] = 0; lateKey[i] = 0; lateA[i] = 0; lateB[i] = 0; lateHeld[i] = false; lateBehind[i] = false; lateAgain[i] = false
	   }
#endif
#ifdef BREAKS
	:: d_step { faults > 0 && nempty(inbox[i]) ->
		faults--;
		drain(i);
		broken[i] = true;
		printf("the watch of session %d is opened again, and misses messages\n", i)
	   }
#endif
#ifdef DEAF
	:: d_step { faults > 0 && nempty(inbox[i]) ->
		faults--;
		drain(i);
		printf("session %d is not told of its messages\n", i)
	   }
#endif
#ifdef NO_INBOX
	:: d_step { faults > 0 && !noInbox[i] && i < NEW ->
		faults--;
		noInbox[i] = true; untold = true;
		printf("the inbox of session %d is deleted by an administrator\n", i)
	   }
#endif
#ifdef SPURIOUS
	:: d_step { faults > 0 && isMarked(own(i)) && !noInbox[i] ->
		faults--;
		printf("a look of some earlier time arrives at session %d\n", i);
		put(false, own(i), 0, 0)
	   }
#endif
#ifdef ADMIN
	:: d_step { faults > 0 && own(i) != 0 ->
		faults--;
		deleted = true; untold = untold || isUnknown(i, own(i));
		printf("the key of session %d is deleted by an administrator\n", i);
		remove(2*i + slot[i])
	   }
#endif
#ifdef EXPIRES
	:: d_step { faults > 0 && alive[i] && own(i) != 0 ->
		faults--;
		printf("the lease of session %d ends\n", i);
		expire(i)
	   }
#endif
#ifdef CRASH
	:: d_step { faults > 0 && alive[i] && state[i] != Dead && state[i] != Done ->
		faults--;
		untold = untold || state[i] == Pass || isMarked(place[i]) && own(i) != place[i];
		printf("session %d crashes\n", i);
		fresh(i); broken[i] = false; drain(i);
		rounds[i] = 0; witness[i] = 0; place[i] = 0; found[i] = Alone; unsure[i] = false;
		state[i] = Dead
	   }
	:: d_step { state[i] == Dead && alive[i] ->
		untold = untold || isHead(2*i) || isHead(2*i + 1);
		printf("the lease of session %d ends\n", i);
		expire(i);
		proven[i] = 0
	   }
#endif
	od
}

#define through(i) (state[i] == Done || state[i] == Dead)

/* At the end of a run, when no step is left. */
proctype Watcher() {
	timeout ->
	d_step {
		stuck = !(through(0) && through(1) && through(2) && through(3));
		assert(!stuck);
		left_behind = key[0] + key[1] + key[2] + key[3] + key[4] + key[5] + key[6] + key[7] != 0;
		assert(!left_behind)
	}
}

init {
	byte i;
	atomic {
		for (each(i)) {
			state[i] = Idle;
			rounds[i] = (i == 0 -> ROUNDS0 : (i == 1 -> ROUNDS1 : ROUNDS));
			alive[i] = true;
			run Session(i);
			run World(i)
		}
		i = 0;
		run Watcher()
	}
}
