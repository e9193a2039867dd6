//go:build tools

// Package tools pins Regal, the linter of our Rego; scripts/regal builds it.
package tools

import _ "github.com/open-policy-agent/regal"
