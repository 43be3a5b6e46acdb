// Package facts is the handler that reports properties of the server: operating system,
// kernel, CPUs, memory, disks, uptime and package manager. It changes nothing.
package facts

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/host"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"

	"github.com/MatthiasWiesner/tasker/handlers"
)

// Name is the handler's name.
const Name = "facts"

// Facts is the result. Sizes are in bytes.
type Facts struct {
	Hostname     string `json:"hostname"`
	OS           OS     `json:"os"`
	Kernel       string `json:"kernel"`
	Architecture string `json:"architecture"`
	CPUs         CPUs   `json:"cpus"`
	Memory       Memory `json:"memory"`
	// Disks are the mounted file systems on local devices. Network file systems are left out,
	// because their server may not respond.
	Disks         []Disk `json:"disks"`
	UptimeSeconds uint64 `json:"uptime_seconds"`
	Load          Load   `json:"load"`
	// PackageManager is apt, dnf, yum, zypper, apk or pacman, or empty if there is none.
	PackageManager string `json:"package_manager"`
	// Virtualization is, for example, kvm, docker or lxc. It is empty on bare metal and if it
	// is unknown.
	Virtualization string `json:"virtualization"`
}

// OS describes the distribution, with the values of os-release.
type OS struct {
	Name    string `json:"name"`
	Family  string `json:"family"`
	Version string `json:"version"`
}

// CPUs describes the processors.
type CPUs struct {
	Count int    `json:"count"`
	Model string `json:"model"`
}

// Memory describes the main memory and the swap space.
type Memory struct {
	Total     uint64 `json:"total"`
	Available uint64 `json:"available"`
	SwapTotal uint64 `json:"swap_total"`
	SwapFree  uint64 `json:"swap_free"`
}

// Disk describes a mounted file system.
type Disk struct {
	Mountpoint string `json:"mountpoint"`
	Device     string `json:"device"`
	Type       string `json:"type"`
	Total      uint64 `json:"total"`
	Free       uint64 `json:"free"`
}

// Load has the load averages of 1, 5 and 15 minutes.
type Load struct {
	One     float64 `json:"1m"`
	Five    float64 `json:"5m"`
	Fifteen float64 `json:"15m"`
}

// New returns the handler.
func New() handlers.Handler {
	return handlers.Typed(handlers.Info{
		Name:    Name,
		Summary: "Reports the OS, kernel, CPUs, memory, disks, uptime and package manager of the server.",
		Restart: handlers.RestartRetry,
	}, func(ctx context.Context, _ struct{}, _ handlers.Call) (handlers.Result, error) {
		facts, err := Gather(ctx)
		if err != nil {
			return handlers.Result{}, err
		}
		return handlers.Result{Value: facts}, nil
	})
}

// Gather returns the facts of this server.
func Gather(ctx context.Context) (Facts, error) {
	h, hostErr := host.InfoWithContext(ctx)
	m, memErr := mem.VirtualMemoryWithContext(ctx)
	l, loadErr := load.AvgWithContext(ctx)
	count, cpuErr := cpu.CountsWithContext(ctx, true)
	if err := errors.Join(hostErr, memErr, loadErr, cpuErr, ctx.Err()); err != nil {
		return Facts{}, fmt.Errorf("gather facts: %w", err)
	}
	facts := Facts{
		Hostname:       h.Hostname,
		OS:             OS{Name: h.Platform, Family: h.PlatformFamily, Version: h.PlatformVersion},
		Kernel:         h.KernelVersion,
		Architecture:   h.KernelArch,
		CPUs:           CPUs{Count: count},
		Memory:         Memory{Total: m.Total, Available: m.Available, SwapTotal: m.SwapTotal, SwapFree: m.SwapFree},
		UptimeSeconds:  h.Uptime,
		Load:           Load{l.Load1, l.Load5, l.Load15},
		PackageManager: packageManager(),
	}
	if h.VirtualizationRole == "guest" {
		facts.Virtualization = h.VirtualizationSystem
	}
	// Some architectures do not report the model of the CPU.
	if infos, err := cpu.InfoWithContext(ctx); err == nil && len(infos) > 0 {
		facts.CPUs.Model = infos[0].ModelName
	}
	disks, err := listDisks(ctx)
	facts.Disks = disks
	return facts, err
}

func listDisks(ctx context.Context) ([]Disk, error) {
	partitions, err := disk.PartitionsWithContext(ctx, false)
	if err != nil {
		return nil, fmt.Errorf("gather facts: list disks: %w", err)
	}
	disks := []Disk{}
	seen := make(map[string]bool)
	for _, p := range partitions {
		// A device may be mounted several times.
		if seen[p.Device] {
			continue
		}
		usage, err := disk.UsageWithContext(ctx, p.Mountpoint)
		if err != nil || usage.Total == 0 {
			continue // The mount belongs to another user, or is an image without free space.
		}
		seen[p.Device] = true
		disks = append(disks, Disk{
			Mountpoint: p.Mountpoint, Device: p.Device, Type: p.Fstype,
			Total: usage.Total, Free: usage.Free,
		})
	}
	return disks, nil
}

// packageManager returns the first package manager that is installed, or "". dnf comes before
// yum, because yum may be an alias of dnf.
func packageManager() string {
	for _, m := range []string{"apt-get", "dnf", "yum", "zypper", "apk", "pacman"} {
		for _, dir := range []string{"/usr/bin", "/sbin", "/bin"} {
			if _, err := exec.LookPath(filepath.Join(dir, m)); err == nil {
				if m == "apt-get" {
					return "apt"
				}
				return m
			}
		}
	}
	return ""
}
