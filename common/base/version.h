/* The version of the software: what nodes report. Depends on: nothing. */
#ifndef BASE_VERSION_H
#define BASE_VERSION_H

#define SHARDKV_VERSION "0.1.0"

#endif
