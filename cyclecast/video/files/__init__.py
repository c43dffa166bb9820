"""Read and write video files and images: everything below the batch job and the live job."""
