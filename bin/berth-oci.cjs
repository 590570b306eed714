#!/usr/bin/env -S node --
// The OCI runtime, with the command line of runc.
'use strict'

require('./berth.cjs').start('berth-oci', 'main-oci')
