/* doppler.h - everything libdoppler promises. */
#ifndef DOPPLER_DOPPLER_H
#define DOPPLER_DOPPLER_H

#include "doppler/adapter.h"
#include "doppler/cache.h"
#include "doppler/chat.h"
#include "doppler/chat_parse.h"
#include "doppler/convert.h"
#include "doppler/doctor.h"
#include "doppler/engine.h"
#include "doppler/explain.h"
#include "doppler/inspect.h"
#include "doppler/options.h"
#include "doppler/quantize.h"
#include "doppler/replay.h"
#include "doppler/session.h"
#include "doppler/source.h"
#include "doppler/stats.h"
#include "doppler/status.h"
#include "doppler/swarm.h"
#include "doppler/version.h"
#include "doppler/vocab.h"

#endif
