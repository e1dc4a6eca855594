package main

import "github.com/spf13/cobra"

func newElect(c *connection) *cobra.Command { return &cobra.Command{Use: "elect"} }
