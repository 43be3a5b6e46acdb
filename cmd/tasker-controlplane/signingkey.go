package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/config"
	"github.com/MatthiasWiesner/tasker/controlplane/signing"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/internal/daemon"
)

// defaultOverlap is how long agents accept both keys by default: agents that are restarted
// or connected once a week learn the new key in time, whatever their version.
const defaultOverlap = 7 * 24 * time.Hour

func signingKeyCommand(src *config.Source) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "signing-key",
		Short: "Show and rotate the keys that sign orders",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(showKeysCommand(src), rotateKeyCommand(src))
	return cmd
}

func showKeysCommand(src *config.Source) *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "List the keys that sign orders, and how many endpoints know the newest",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := load(src)
			if err != nil {
				return err
			}
			return daemon.Failed(withStore(cmd.Context(), c, func(s *store.Store) error {
				return showKeys(cmd.Context(), s, cmd.OutOrStdout())
			}))
		},
	}
}

func showKeys(ctx context.Context, s *store.Store, out io.Writer) error {
	keys, err := s.ListSigningKeys(ctx, store.OrderKeys)
	if err != nil {
		return err
	}
	known := map[string]int{}
	enrolled := 0
	_, err = s.Select(ctx, func(e tasker.Endpoint) bool {
		if e.EnrolledAt != nil && e.RevokedAt == nil {
			enrolled++
			known[e.Key]++
		}
		return false
	})
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tSIGNS FROM\tRETIRES\tNEWEST KEY OF\tCREATED AT")
	for i, key := range keys {
		retires := "-"
		if i+1 < len(keys) {
			retires = keys[i+1].Retires.Format(time.RFC3339)
		}
		id := tasker.KeyID(key.Public)
		fmt.Fprintf(w, "%s\t%s\t%s\t%d of %d endpoints\t%s\n", id, key.SignsFrom.Format(time.RFC3339), retires, known[id], enrolled, key.Origin)
	}
	return w.Flush()
}

func rotateKeyCommand(src *config.Source) *cobra.Command {
	var r signing.RotateOptions
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Add a key that signs orders, and retire the old one",
		Long: `rotate writes a new key to the file of signing.key_file, and its public part, signed by
the old key, to the database. Running control planes read the file within 30 seconds.
They introduce the new key to the agents, and sign with the old one until the overlap
ends. An hour later agents no longer accept the old key.

An agent that was offline during the overlap learns the new key when it connects. An
agent of a version without rotation accepts both keys if it enrols during the overlap;
afterwards enrol it again, with the same name.

Several control planes on one database: copy the file to each of them before the overlap
ends. If the old key was stolen, use --overlap 0s.`,
		Example: `  tasker-controlplane signing-key rotate
  tasker-controlplane signing-key rotate --overlap 0s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := load(src)
			if err != nil {
				return err
			}
			if r.Overlap < 0 {
				return errors.New("--overlap is negative")
			}
			return daemon.Failed(rotateKey(cmd.Context(), c, r, cmd.OutOrStdout()))
		},
	}
	cmd.Flags().DurationVar(&r.Overlap, "overlap", defaultOverlap, "how long orders are signed with the old key; 0s if it was stolen")
	cmd.Flags().BoolVar(&r.Lost, "lost", false, "the old key is lost: sign with a new one at once; every agent must enrol again")
	return cmd
}

func rotateKey(ctx context.Context, c *config.ControlPlane, r signing.RotateOptions, out io.Writer) error {
	return withSigningOptions(ctx, c, func(o signing.Options) error {
		rotation, err := signing.Rotate(ctx, o, r)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "signing key %s is in %s\n", rotation.Key, o.File)
		fmt.Fprintf(out, "orders are signed with it from %s; the old key retires at %s\n",
			rotation.SignsFrom.Format(time.RFC3339), rotation.Retires.Format(time.RFC3339))
		fmt.Fprintln(out, "back the file up, and copy it to the other control planes of this database")
		return nil
	})
}

// withSigningOptions calls fn with the database and the key file of the configuration.
func withSigningOptions(ctx context.Context, c *config.ControlPlane, fn func(signing.Options) error) error {
	return withStore(ctx, c, func(s *store.Store) error {
		return fn(signing.Options{Store: s, File: c.SigningKeyFile(), Log: daemon.NewLogger(c.Log, os.Stderr)})
	})
}

// withStore opens the database, which must be initialized, for the time of a call.
func withStore(ctx context.Context, c *config.ControlPlane, fn func(*store.Store) error) (err error) {
	s, err := store.Open(ctx, store.Options{URI: c.Database.URI.Reveal(), DataDir: c.DataDir, Types: c.Types()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.Check(ctx); err != nil {
		return err
	}
	return fn(s)
}
