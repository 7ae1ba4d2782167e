/*
 * declaration_codec.h - a declaration as bytes, for commands and snapshots.
 */
#ifndef HA_STORE_DECLARATION_CODEC_H
#define HA_STORE_DECLARATION_CODEC_H

#include "base/codec.h"
#include "store/state.h"

/* Fails the writer on a member count out of bounds. */
void declaration_put(struct codec_writer *w, const struct declaration *d);

/* Fails the reader on a member count out of bounds. */
void declaration_get(struct codec_reader *r, struct declaration *d);

#endif
