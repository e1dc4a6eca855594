package mixed

const processEnv = "ETCDLOCK_MIXED_PROCESS"

func processMain() int { return 0 }
