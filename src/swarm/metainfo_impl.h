/* metainfo_impl.h - what a dp_metainfo is inside, for torrent.cpp. C++ only. */
#ifndef DP_SWARM_METAINFO_IMPL_H
#define DP_SWARM_METAINFO_IMPL_H

#include <memory>
#include <string>
#include <vector>

#include <libtorrent/torrent_info.hpp>

extern "C" {
#include "base/status.h"
#include "swarm/metainfo.h"
}

struct dp_metainfo {
    std::shared_ptr<lt::torrent_info> info; /* with its piece layers; copied to be added */
    std::vector<char> bytes;
    std::string name;
    std::vector<std::string> paths, trackers, web_seeds;
    std::vector<const char *> tracker_pointers, web_seed_pointers;
    std::vector<dp_layout_file> files; /* hashes point into *info */
    dp_layout layout;
    dp_hash v2;
    bool is_folder;
};

#endif
