package main

import (
	"fmt"
	"os"

	"golang.org/x/term"
)

// askPassword asks for a password on the terminal.
func askPassword(user string) (string, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return "", fmt.Errorf("no password for user %q: give it as --user %s:PASSWORD, with --password or in ETCDCTL_PASSWORD", user, user)
	}
	fmt.Fprint(os.Stderr, "Password: ")
	password, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprintln(os.Stderr)
	return string(password), err
}
