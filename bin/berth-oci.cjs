#!/usr/bin/env -S node --v8-pool-size=1 --
// The OCI runtime, with the command line of runc.
'use strict'

require('./berth.cjs').start('berth-oci', 'main-oci')
